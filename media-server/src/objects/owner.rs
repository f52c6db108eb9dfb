//! The owner of a prefix: a small object that names the one server that may write and delete below it.
//!
//! Two servers with one prefix would take each other's recordings for leftovers. So the first one puts a marker, with
//! `If-None-Match` where the store has it, and another one refuses to work. A store without conditional writes may let two
//! servers put it at the same time; the one that reads the other's id at its next look refuses from then on.

use super::error::{ObjectsError, Reason};
use super::write::Signed;
use super::{Digest, Objects};
use aws_sdk_s3::primitives::ByteStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The marker's key, below the prefix.
pub(super) const MARKER: &str = ".streamsession-owner.json";
/// A marker has fewer bytes.
const LONGEST: usize = 4096;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    owner: String,
    #[serde(default)]
    since: Option<Timestamp>,
}

impl Objects {
    /// Returns the owner of the prefix; `None` where no marker is.
    pub async fn owner(&self) -> Result<Option<String>, ObjectsError> {
        let content = match self.get(MARKER, None).await {
            Ok(content) => content,
            Err(error) if error.reason() == Reason::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let read = content.collect(LONGEST).await.map_err(|error| error.to_string());
        let marker = read.and_then(|text| serde_json::from_slice::<Marker>(&text).map_err(|error| error.to_string()));
        match marker {
            Ok(marker) => Ok(Some(marker.owner)),
            Err(error) => {
                let said = format!("the owner's marker {} cannot be read ({error})", self.key(MARKER));
                Err(ObjectsError::new(Reason::OwnedByAnother, said))
            }
        }
    }

    /// Makes this server the owner of the prefix, unless another one is. The store in the pod has no other clients, and no
    /// marker.
    pub async fn claim(&self, owner: &str) -> Result<(), ObjectsError> {
        if !self.0.shared || self.is_owned_by(owner).await? {
            return Ok(());
        }
        match self.put_marker(owner, true).await {
            Ok(()) => tracing::info!(prefix = self.0.identity, owner, "prefix claimed"),
            // Another server was faster, or the store knows no conditions.
            Err(error) if error.reason() == Reason::Refused => {
                if self.is_owned_by(owner).await? {
                    return Ok(());
                }
                self.put_marker(owner, false).await?;
            }
            Err(error) => return Err(error),
        }
        match self.is_owned_by(owner).await? {
            true => Ok(()),
            false => {
                Err(ObjectsError::new(Reason::Failed, format!("{} does not show the owner's marker", self.0.place)))
            }
        }
    }

    /// Makes this server the owner of a prefix that another one owns.
    pub async fn take_over(&self, owner: &str) -> Result<(), ObjectsError> {
        self.put_marker(owner, false).await
    }

    /// Removes the marker, if no other object is below the prefix.
    pub async fn release(&self) -> Result<(), ObjectsError> {
        let page = self.list("", None).await?;
        match page.objects.iter().all(|object| object.key == MARKER) && page.next.is_none() {
            true => self.delete(&[MARKER.to_owned()]).await,
            false => Ok(()),
        }
    }

    /// Returns whether the prefix has a marker. That of another server is an error.
    async fn is_owned_by(&self, owner: &str) -> Result<bool, ObjectsError> {
        match self.owner().await? {
            None => Ok(false),
            Some(found) if found == owner => Ok(true),
            Some(found) => Err(self.owned_by(&found)),
        }
    }

    /// Returns the error of a prefix that another server owns.
    pub fn owned_by(&self, owner: &str) -> ObjectsError {
        ObjectsError::new(Reason::OwnedByAnother, format!("{} belongs to another server, {owner}", self.0.identity))
    }

    async fn put_marker(&self, owner: &str, only_first: bool) -> Result<(), ObjectsError> {
        let marker = Marker { owner: owner.to_owned(), since: Some(Timestamp::now()) };
        let text = serde_json::to_vec(&marker)
            .map_err(|error| ObjectsError::new(Reason::Failed, format!("marker not written: {error}")))?;
        let sha256 = Digest::of(&text);
        let request = self.0.client.put_object().bucket(&self.0.bucket).key(self.key(MARKER));
        let request = request
            .set_if_none_match(only_first.then(|| "*".to_owned()))
            .content_type("application/json")
            .checksum_sha256(sha256.base64())
            .body(ByteStream::from(text))
            .customize()
            .interceptor(Signed(sha256));
        self.ask(request.send(), Reason::NoSuchBucket).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{FakeStore, Fault};
    use super::*;
    use axum::http::Method;

    #[tokio::test]
    async fn prefix_belongs_to_the_first() {
        for conditions in [true, false] {
            let fake = FakeStore::start().await;
            fake.know_conditions(conditions);
            let objects = fake.objects();
            assert_eq!(objects.owner().await.unwrap(), None);
            objects.claim("first").await.unwrap();
            objects.claim("first").await.unwrap();
            assert_eq!(objects.owner().await.unwrap().as_deref(), Some("first"));
            let error = objects.claim("second").await.unwrap_err();
            assert_eq!(error.reason(), Reason::OwnedByAnother);
            let text = error.to_string();
            assert!(text.contains("default/cams/") && text.contains("first") && text.contains("take-over"), "{text}");
            objects.take_over("second").await.unwrap();
            objects.claim("second").await.unwrap();
            assert_eq!(objects.claim("first").await.unwrap_err().reason(), Reason::OwnedByAnother);
        }
    }

    #[tokio::test]
    async fn simultaneous_claims_have_one_owner() {
        let fake = FakeStore::start().await;
        fake.know_conditions(true);
        let claims = (0..8).map(|number| {
            let objects = fake.objects();
            async move { objects.claim(&format!("server-{number}")).await.is_ok() }
        });
        let claimed = futures_util::future::join_all(claims).await;
        assert_eq!(claimed.iter().filter(|claimed| **claimed).count(), 1, "{claimed:?}");
    }

    #[tokio::test]
    async fn unreadable_marker_is_another_owner() {
        let fake = FakeStore::start().await;
        fake.overwrite(MARKER, b"{");
        assert_eq!(fake.objects().claim("first").await.unwrap_err().reason(), Reason::OwnedByAnother);
        fake.fail_on(Method::GET, Fault::BUSY);
        assert_eq!(fake.objects().claim("first").await.unwrap_err().reason(), Reason::SlowDown);
        assert_eq!(fake.object(MARKER).unwrap(), b"{");
    }

    #[tokio::test]
    async fn marker_is_removed_last() {
        let fake = FakeStore::start().await;
        let objects = fake.objects();
        objects.claim("first").await.unwrap();
        fake.overwrite("gate/a", b"x");
        objects.release().await.unwrap();
        assert!(fake.object(MARKER).is_some(), "an object is left");
        objects.delete(&["gate/a".to_owned()]).await.unwrap();
        objects.release().await.unwrap();
        assert_eq!(fake.object(MARKER), None);
    }
}
