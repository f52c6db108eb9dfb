//! Reasons of conditions and events. docs/reference/conditions.md tells of each, and a test sees to it.

macro_rules! reasons {
    ($($name:ident = $text:literal;)*) => {
        $(pub(crate) const $name: &str = $text;)*
        /// All of them.
        #[cfg(test)]
        pub(crate) const ALL: &[&str] = &[$($text),*];
    };
}

reasons! {
    READY = "Ready";
    SERVING = "Serving";
    RELAYING = "Relaying";
    WRITABLE = "Writable";
    LOCAL = "Local";
    UPLOADING = "Uploading";
    NOT_NEEDED = "NotNeeded";
    DISABLED = "Disabled";
    EXTERNAL = "External";
    UP_TO_DATE = "UpToDate";
    NOT_STALLED = "NotStalled";
    PAUSED = "Paused";

    STARTING = "Starting";
    CONNECTING = "Connecting";
    CONFIGURING = "Configuring";
    DRAINING = "Draining";
    REPLACING = "Replacing";
    WAITING_FOR_IDLE = "WaitingForIdle";

    SECRET_MISSING = "SecretMissing";
    POD_REFUSED = "PodRefused";
    VOLUME_PENDING = "VolumePending";
    VOLUME_LOST = "VolumeLost";
    UNSCHEDULABLE = "Unschedulable";
    IMAGE_PULL_FAILED = "ImagePullFailed";
    CONTAINER_CONFIG_ERROR = "ContainerConfigError";
    CRASH_LOOPING = "CrashLooping";
    MOUNT_FAILED = "MountFailed";
    POD_FAILED = "PodFailed";
    NOT_READY = "NotReady";
    POD_STUCK = "PodStuck";

    NO_ADDRESS = "NoAddress";
    UNREACHABLE = "Unreachable";
    UNAUTHORIZED = "Unauthorized";
    ANSWER_UNREADABLE = "AnswerUnreadable";
    NOT_ANSWERING = "NotAnswering";
    STORE_REFUSES = "StoreRefuses";
    UPLOADS_FAILING = "UploadsFailing";
    FALLING_BEHIND = "FallingBehind";
    RECORDINGS_ELSEWHERE = "RecordingsElsewhere";

    INVALID_SPEC = "InvalidSpec";
    UNSUPPORTED = "Unsupported";
    RECORDINGS_IN_MANAGED_STORE = "RecordingsInManagedStore";
    NAME_TAKEN = "NameTaken";
    REFUSED = "Refused";
    SETTINGS_REFUSED = "SettingsRefused";
    VOLUME_CANNOT_SHRINK = "VolumeCannotShrink";
    VOLUME_CLASS_FIXED = "VolumeClassFixed";

    WAITING_FOR_UPLOADS = "WaitingForUploads";
    STOPPING = "Stopping";
    DELETING_RECORDINGS = "DeletingRecordings";
    RECLAIM_FAILED = "ReclaimFailed";

    CLEANED_UP = "CleanedUp";
    CLEANUP_FAILED = "CleanupFailed";
    RECORDINGS_DELETED = "RecordingsDeleted";
    RECORDINGS_UPLOADED = "RecordingsUploaded";
    RECORDINGS_KEPT = "RecordingsKept";
    POD_REPLACED = "PodReplaced";
    SECRETS_ROTATED = "SecretsRotated";
}

/// Whether a reason for not being True is on its way to pass by itself, so that no warning is due.
pub(crate) fn passes(reason: &str) -> bool {
    [
        STARTING,
        CONNECTING,
        CONFIGURING,
        DRAINING,
        REPLACING,
        WAITING_FOR_IDLE,
        PAUSED,
        STOPPING,
        WAITING_FOR_UPLOADS,
        DELETING_RECORDINGS,
    ]
    .contains(&reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_told_of_in_the_reference() {
        let text = include_str!("../../../docs/reference/conditions.md");
        for reason in ALL {
            assert!(text.contains(&format!("`{reason}`")), "docs/reference/conditions.md lacks {reason}");
        }
    }

    #[test]
    fn reasons_are_of_the_form_that_the_api_server_takes() {
        for reason in ALL {
            assert!(reason.starts_with(|c: char| c.is_ascii_uppercase()), "{reason}");
            assert!(reason.chars().all(|c| c.is_ascii_alphanumeric()), "{reason}");
        }
    }
}
