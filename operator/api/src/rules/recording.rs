//! Rules about recording, drain and database.

use std::time::Duration;

use super::{SpecRule, cel_at_least, cel_duration, duration_outside, present_unless, quantity_below, quoted};
use crate::{DatabaseMode, ReclaimPolicy};

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) const SEGMENT_DURATION: SpecRule = SpecRule {
    field: "recording.segmentDuration",
    cel: cel_duration!("self.recording.segmentDuration", "1s", "60s", "false"),
    remedy: "segmentDuration: write a duration from 1s to 60s, such as 10s",
    offending: |spec| {
        duration_outside(&spec.recording.segment_duration, Duration::from_secs(1), Duration::from_secs(60))
    },
};

pub(crate) const MAX_DURATION: SpecRule = SpecRule {
    field: "recording.maxDuration",
    cel: cel_duration!("self.recording.maxDuration", "1m", "24h", "self.recording.maxDuration == '1d'"),
    remedy: "maxDuration: write a duration from 1m to 24h, such as 1h",
    offending: |spec| duration_outside(&spec.recording.max_duration, Duration::from_secs(60), 24 * HOUR),
};

pub(crate) const IDLE_TIMEOUT: SpecRule = SpecRule {
    field: "recording.idleTimeout",
    cel: cel_duration!("self.recording.idleTimeout", "1s", "1h", "false"),
    remedy: "idleTimeout: write a duration from 1s to 1h, such as 30s",
    offending: |spec| duration_outside(&spec.recording.idle_timeout, Duration::from_secs(1), HOUR),
};

pub(crate) const MAX_AGE: SpecRule = SpecRule {
    field: "recording.retention.maxAge",
    cel: concat!(
        "!has(self.recording.retention.maxAge) || (",
        cel_duration!("self.recording.retention.maxAge", "1m", "2000000h", "true"),
        ")"
    ),
    remedy: "maxAge: write a duration of at least 1m, such as 30d, or remove it to delete nothing by age",
    offending: |spec| {
        duration_outside(spec.recording.retention.max_age.as_ref()?, Duration::from_secs(60), Duration::MAX)
    },
};

pub(crate) const MAX_BYTES: SpecRule = SpecRule {
    field: "recording.retention.maxBytes",
    cel: concat!(
        "!has(self.recording.retention.maxBytes) || (",
        cel_at_least!("self.recording.retention.maxBytes", "100Mi"),
        ")"
    ),
    remedy: "maxBytes: write bytes with a unit, at least 100Mi, such as 500Gi, or remove it to delete nothing by size",
    offending: |spec| quantity_below(spec.recording.retention.max_bytes.as_ref()?, 100 << 20),
};

pub(crate) const CLEANUP_SCHEDULE: SpecRule = SpecRule {
    field: "recording.cleanupSchedule",
    cel: "self.recording.cleanupSchedule.matches('^[0-9A-Za-z*/,-]+( [0-9A-Za-z*/,-]+){4}$')",
    remedy: "cleanupSchedule: write five fields of cron with a blank between them (minute, hour, day, month, weekday), such as \"17 * * * *\"",
    offending: |spec| {
        let schedule = &spec.recording.cleanup_schedule;
        (!is_schedule(schedule)).then(|| quoted(schedule))
    },
};

pub(crate) const RECLAIM_DELETE: SpecRule = SpecRule {
    field: "recording.reclaimPolicy",
    cel: "self.recording.reclaimPolicy != 'Delete' || !has(self.storage.external) || !has(self.storage.external.webIdentity)",
    remedy: "reclaimPolicy: write Retain or WaitForUploads with storage.external.webIdentity, since Delete runs where its service account is not",
    offending: |spec| {
        let external = spec.storage.external.as_ref()?;
        let delete = spec.recording.reclaim_policy == ReclaimPolicy::Delete;
        (delete && external.web_identity.is_some()).then(|| "Delete with storage.external.webIdentity".to_owned())
    },
};

pub(crate) const DRAIN_DEADLINE: SpecRule = SpecRule {
    field: "drain.deadline",
    cel: cel_duration!("self.drain.deadline", "1s", "1h", "false"),
    remedy: "deadline: write a duration from 1s to 1h, such as 60s",
    offending: |spec| duration_outside(&spec.drain.deadline, Duration::from_secs(1), HOUR),
};

pub(crate) const DATABASE_URL: SpecRule = SpecRule {
    field: "database.urlSecretRef",
    cel: "has(self.database.urlSecretRef) == (self.database.mode == 'Postgres')",
    remedy: "database.urlSecretRef goes with mode Postgres: write `database: {mode: Postgres, urlSecretRef: {name: postgres, key: url}}`, or neither",
    offending: |spec| {
        present_unless(spec.database.url_secret_ref.is_some(), spec.database.mode, DatabaseMode::Postgres)
    },
};

fn is_schedule(text: &str) -> bool {
    let field = |field: &str| {
        !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"*/,-".contains(&byte))
    };
    text.split(' ').count() == 5 && text.split(' ').all(field)
}
