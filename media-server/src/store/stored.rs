//! What the object store has of a page of recordings, by one query.

use super::{Store, StoreError, word};
use crate::control::RecordingId;
use recorder::Gap;
use std::collections::HashMap;

impl Store {
    /// Returns those of `recordings` that the object store holds as a whole, with the gaps of their manifests.
    pub async fn stored_recordings(
        &self,
        recordings: &[RecordingId],
    ) -> Result<HashMap<RecordingId, Vec<Gap>>, StoreError> {
        let ids: Vec<_> = recordings.iter().map(RecordingId::as_str).collect();
        let found = sqlx::query(
            "SELECT recording, gaps FROM stored_recordings
             WHERE committed_at IS NOT NULL AND recording IN (SELECT value FROM json_each(?))",
        )
        .bind(serde_json::Value::from(ids).to_string())
        .fetch_all(&self.pool)
        .await;
        let read = |rows: Vec<_>| {
            let gaps = |row| word(row, "gaps", |text| serde_json::from_str(text).ok());
            rows.iter().map(|row| Ok((word(row, "recording", RecordingId::parse)?, gaps(row)?))).collect()
        };
        found.and_then(read).map_err(|e| self.error(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::StreamId;

    #[tokio::test]
    async fn page_of_recordings_is_read_by_one_query() {
        let store = Store::in_memory().await.unwrap();
        let ids: Vec<_> = (0..4).map(|_| RecordingId::first_of(&StreamId::random())).collect();
        let gaps = r#"[{"track":"video","from":1.5,"to":2.0,"reason":"loss"}]"#;
        for (id, gaps, committed) in [(&ids[0], gaps, Some("now")), (&ids[1], "[]", None), (&ids[2], "[]", Some("now"))]
        {
            sqlx::query("INSERT INTO stored_recordings (recording, gaps, committed_at) VALUES (?, ?, ?)")
                .bind(id.as_str())
                .bind(gaps)
                .bind(committed)
                .execute(&store.pool)
                .await
                .unwrap();
        }
        let stored = store.stored_recordings(&ids[..2]).await.unwrap();
        assert_eq!(stored.keys().collect::<Vec<_>>(), [&ids[0]], "uploads that are not done do not count");
        assert_eq!(stored[&ids[0]].len(), 1);
        let stored = store.stored_recordings(&ids).await.unwrap();
        assert_eq!((stored.len(), stored[&ids[2]].len()), (2, 0));
        assert!(store.stored_recordings(&[]).await.unwrap().is_empty());
    }
}
