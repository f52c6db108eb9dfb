//! What is written in the operator's own namespace: the copy of a store's keys, and the final Job that has it.
//!
//! The values of the copy are read here and go straight into it; no plan, error or log line has them.

use super::super::Context;
use super::super::memory::Remembered;
use super::{counted, only};
use crate::error::ApiError;
use crate::plan::AUTHORITIES;
use crate::plan::names::FIELD_MANAGER;
use crate::plan::{Elsewhere, SecretCopy};
use k8s_openapi::ByteString;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use streamsession_api::CaBundle;

/// In their order; the first that fails ends it, since what follows rests on it.
pub(super) async fn carry_out(
    context: &Context,
    namespace: &str,
    steps: &[Elsewhere],
    remembered: &mut Remembered,
) -> Result<(), ApiError> {
    let Some(own) = context.settings.operator_namespace.as_deref() else { return Ok(()) };
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), own);
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), own);
    for step in steps {
        match step {
            Elsewhere::Copy(copy) => {
                remembered.drop_copy();
                copy_secret(context, namespace, copy, &secrets).await?;
            }
            Elsewhere::CreateJob(job) => {
                let job: Job = serde_json::from_value(job.clone())
                    .map_err(|error| ApiError::new("create the final Job", &kube::Error::SerdeError(error)))?;
                let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                let result = jobs.create(&params, &job).await;
                let made = counted(context, "create", "Job", result, &[409])
                    .map_err(|error| ApiError::new(format!("create Job {} in {own}", job.name_any()), &error))?;
                if made.is_some() {
                    tracing::info!(job = job.name_any(), namespace = own, "the final Job is made");
                }
            }
            Elsewhere::DeleteJob { name, uid } => {
                let params = DeleteParams { preconditions: only(uid), ..DeleteParams::background() };
                counted(context, "delete", "Job", jobs.delete(name, &params).await, &[404, 409])
                    .map_err(|error| ApiError::new(format!("delete Job {name} in {own}"), &error))?;
            }
            Elsewhere::DeleteCopy { name, uid } => {
                remembered.drop_copy();
                let preconditions = uid.as_deref().and_then(only);
                let params = DeleteParams { preconditions, ..DeleteParams::default() };
                counted(context, "delete", "Secret", secrets.delete(name, &params).await, &[404, 409])
                    .map_err(|error| ApiError::new(format!("delete Secret {name} in {own}"), &error))?;
            }
        }
    }
    Ok(())
}

async fn copy_secret(
    context: &Context,
    namespace: &str,
    copy: &SecretCopy,
    into: &Api<Secret>,
) -> Result<(), ApiError> {
    let from: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let words = |what: &str| format!("{what} Secret {} for the final Job", copy.from);
    let read = from.get(&copy.from).await.map_err(|error| ApiError::without_words(words("read"), &error))?;
    let mut secret: Secret = serde_json::from_value(copy.to.clone())
        .map_err(|error| ApiError::without_words(words("copy"), &kube::Error::SerdeError(error)))?;
    let mut data = read.data.unwrap_or_default();
    data.retain(|key, _| copy.keys.contains(key));
    if let Some(bundle) = &copy.authorities {
        let pem = authorities(context, namespace, bundle).await?;
        data.insert(AUTHORITIES.to_owned(), pem);
    }
    secret.data = Some(data);
    let name = secret.name_any();
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let result = into.patch(&name, &params, &Patch::Apply(&secret)).await;
    counted(context, "apply", "Secret", result, &[]).map_err(|error| ApiError::without_words(words("copy"), &error))?;
    tracing::info!(from = copy.from, to = name, "the store's keys are copied for the session's end");
    Ok(())
}

/// Reads the authorities of the store.
async fn authorities(context: &Context, namespace: &str, bundle: &CaBundle) -> Result<ByteString, ApiError> {
    let words =
        |name: &str| format!("read the authorities in {name} (spec.storage.external.caBundle) for the final Job");
    if let Some(reference) = &bundle.config_map_key_ref {
        let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
        let map = maps.get(&reference.name).await.map_err(|error| ApiError::new(words(&reference.name), &error))?;
        let text = map.data.and_then(|mut data| data.remove(&reference.key)).unwrap_or_default();
        return Ok(ByteString(text.into_bytes()));
    }
    let Some(reference) = &bundle.secret_key_ref else { return Ok(ByteString::default()) };
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let secret =
        secrets.get(&reference.name).await.map_err(|error| ApiError::without_words(words(&reference.name), &error))?;
    Ok(secret.data.and_then(|mut data| data.remove(&reference.key)).unwrap_or_default())
}
