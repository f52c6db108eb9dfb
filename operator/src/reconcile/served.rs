//! Asks the API server, again and again, whether it serves StreamSessions as this program knows them.
//!
//! By discovery, which every account may read, so that no rights to CustomResourceDefinitions are needed.

use crate::error::{code, explain};
use crate::readiness::Readiness;
use kube::{Client, Resource};
use std::time::{Duration, Instant};
use streamsession_api::StreamSession;

/// While it is not served.
const SOON: Duration = Duration::from_secs(2);
/// While all is well: often enough that an answer is never older than readiness takes.
const LATER: Duration = Duration::from_secs(20);

/// Asks until it is dropped.
pub(super) async fn watch(client: Client, readiness: Readiness) {
    let mut told = false;
    loop {
        let wait = match ask(&client).await {
            Some(answer) => {
                let wait = if answer.is_ok() { LATER } else { SOON };
                if let Err(why) = &answer
                    && !std::mem::replace(&mut told, true)
                {
                    tracing::warn!("StreamSessions are {why}");
                }
                readiness.served(answer, Instant::now());
                wait
            }
            // No answer at all: the last one grows old by itself.
            None => SOON,
        };
        tokio::time::sleep(wait).await;
    }
}

/// Served, or what is wrong; `None` when nobody answered.
async fn ask(client: &Client) -> Option<Result<(), String>> {
    let version = StreamSession::api_version(&());
    let plural = StreamSession::plural(&());
    match client.list_api_group_resources(&version).await {
        Ok(list) => {
            let has = |name: &str| list.resources.iter().any(|resource| resource.name == name);
            Some(if has(&plural) && has(&format!("{plural}/status")) {
                Ok(())
            } else {
                Err(format!(
                    "not served in {version} with a status; apply the CustomResourceDefinition of this version (crds.enabled of the chart)"
                ))
            })
        }
        Err(error) => match code(&error) {
            404 => Some(Err(format!(
                "not served in {version}; apply the CustomResourceDefinition of this version (crds.enabled of the chart)"
            ))),
            403 | 401 => Some(Err(format!("not known to be served: {}", explain(&error)))),
            _ => {
                tracing::warn!(error = explain(&error), "the API server does not answer");
                None
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Api, answer};
    use super::*;
    use serde_json::json;

    fn resources(names: &[&str]) -> serde_json::Value {
        let resources: Vec<_> = names
            .iter()
            .map(|name| json!({"name": name, "singularName": "", "namespaced": true, "kind": "StreamSession", "verbs": ["get"]}))
            .collect();
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "media.streamsession.io/v1alpha1", "resources": resources})
    }

    #[tokio::test]
    async fn it_is_served_when_the_resource_and_its_status_are() {
        let api = Api::new(|_| answer(200, resources(&["streamsessions", "streamsessions/status"])));
        assert_eq!(ask(&api.client()).await, Some(Ok(())));
        assert_eq!(api.log(), ["GET /apis/media.streamsession.io/v1alpha1"]);
    }

    #[tokio::test]
    async fn another_version_or_one_without_a_status_is_told_with_the_remedy() {
        let missing =
            Api::new(|_| answer(404, json!({"code": 404, "reason": "NotFound", "message": "404 page not found"})));
        let without = Api::new(|_| answer(200, resources(&["streamsessions"])));
        for api in [missing, without] {
            let why = ask(&api.client()).await.unwrap().unwrap_err();
            assert!(why.contains("v1alpha1") && why.contains("CustomResourceDefinition"), "{why}");
        }
    }

    #[tokio::test]
    async fn an_api_server_that_fails_says_nothing_about_it() {
        let api = Api::new(|_| answer(503, json!({"code": 503, "reason": "ServiceUnavailable", "message": "later"})));
        assert_eq!(ask(&api.client()).await, None);
    }
}
