//! A recording's folder, once it is complete.

use super::until;
use recorder::{Manifest, composition};
use std::path::{Path, PathBuf};
use std::time::Duration;

const FINALISE_LIMIT: Duration = Duration::from_secs(20);

/// A complete recording.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Manifest,
}

impl Recorded {
    /// Waits for the manifest, which is written last, and checks that the files are what it says.
    pub(crate) async fn complete(recordings: &Path, id: &str) -> Recorded {
        let folder = recordings.join(id);
        let path = folder.join("manifest.json");
        let path = &path;
        let text =
            until("manifest.json", FINALISE_LIMIT, || async move { tokio::fs::read_to_string(path).await.ok() }).await;
        Recorded::read(folder, &text)
    }

    /// What is there now; `None` when it is not complete.
    pub(crate) fn now(recordings: &Path, id: &str) -> Option<Recorded> {
        let folder = recordings.join(id);
        let text = std::fs::read_to_string(folder.join("manifest.json")).ok()?;
        Some(Recorded::read(folder, &text))
    }

    fn read(folder: PathBuf, text: &str) -> Recorded {
        let manifest: Manifest = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(manifest.complete);
        let files = manifest.segments.iter().map(|segment| (&segment.file, segment.bytes, &segment.sha256));
        let files = files.chain(manifest.inits.iter().map(|init| (&init.file, init.bytes, &init.sha256)));
        for (name, bytes, sha256) in files {
            let content = std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            let digest = ring::digest::digest(&ring::digest::SHA256, &content);
            let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!((content.len() as u64, &hex), (bytes, sha256), "{name} is not what the manifest says");
        }
        Recorded { folder, manifest }
    }

    /// Composes `recording.mp4` beside the recordings directory.
    pub(crate) fn mp4(&self) -> PathBuf {
        let beside = self.folder.parent().and_then(Path::parent).expect("recordings are in a data directory");
        let path = beside.join(format!("{}.mp4", self.manifest.description.id));
        let mut file = std::fs::File::create(&path).unwrap();
        let open = |name: &str| std::fs::File::open(self.folder.join(name));
        assert!(composition::write(&self.manifest, 1, open, &mut file).unwrap());
        assert!(!composition::write(&self.manifest, 2, open, &mut std::io::sink()).unwrap(), "one file has all of it");
        path
    }

    /// Seconds of picture that the manifest says are missing, and in how many places.
    pub(crate) fn video_gaps(&self) -> (f64, usize) {
        let gaps = self.manifest.gaps.iter().filter(|gap| gap.track == recorder::Track::Video);
        gaps.fold((0.0, 0), |(seconds, count), gap| (seconds + gap.to - gap.from, count + 1))
    }
}
