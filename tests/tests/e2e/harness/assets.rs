//! Clips that ffmpeg makes once and that stay in target/tmp.

use super::media::run;
use media_client::source::{Clip, Source};
use std::path::{Path, PathBuf};

/// Frames per second.
const RATE: u32 = 30;
/// Length of the clip.
pub(crate) const FLASH_CLIP_SECONDS: u32 = 30;
/// Seconds at which the picture of [`flash_clip`] turns white for 0.1 s and the sound beeps.
pub(crate) const FLASHES: [f64; 2] = [1.0, 29.0];

/// What the picture is encoded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Picture {
    H264,
    Vp8,
}

/// A clip in files.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) video: PathBuf,
    pub(crate) audio: PathBuf,
}

impl Files {
    /// To be played once.
    pub(crate) fn source(&self) -> Source {
        let video = Clip::open(&self.video, None).unwrap();
        Source::new(Some(video), Some(Clip::open(&self.audio, None).unwrap())).unwrap()
    }
}

/// 30 s of a moving picture and silence, with a flash and a beep near both ends; a keyframe every 2 s, no B-frames.
pub(crate) async fn flash_clip(picture: Picture) -> Files {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e-clips-1");
    std::fs::create_dir_all(&folder).unwrap();
    let white: Vec<String> = FLASHES.iter().map(|at| format!("between(n,{0},{0}+2)", at * f64::from(RATE))).collect();
    let loud: Vec<String> = FLASHES.iter().map(|at| format!("between(t,{at},{at}+0.1)")).collect();
    let image = format!(
        "testsrc2=size=640x360:rate={RATE}:duration={FLASH_CLIP_SECONDS},drawbox=color=white:t=fill:enable='{}',format=yuv420p",
        white.join("+")
    );
    let sound = format!("aevalsrc='0.5*sin(2*PI*1000*t)*({})':s=48000:d={FLASH_CLIP_SECONDS}", loud.join("+"));
    let (name, encoder): (&str, &[&str]) = match picture {
        Picture::H264 => (
            "flash.h264",
            &[
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                "-profile:v",
                "baseline",
                "-bf",
                "0",
                "-sc_threshold",
                "0",
                "-f",
                "h264",
            ],
        ),
        Picture::Vp8 => (
            "flash.ivf",
            &["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-auto-alt-ref", "0", "-f", "ivf"],
        ),
    };
    let mut arguments = vec!["-f", "lavfi", "-i", image.as_str(), "-g", "60", "-keyint_min", "60", "-b:v", "1500k"];
    arguments.extend(encoder);
    let video = made(&folder, name, &arguments).await;
    let audio =
        made(&folder, "flash.ogg", &["-f", "lavfi", "-i", &sound, "-c:a", "libopus", "-b:a", "64k", "-f", "ogg"]).await;
    Files { video, audio }
}

/// Makes 30 s of a small moving picture with a keyframe every 0.5 s, and a tone.
pub(crate) async fn dense_clip() -> Files {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e-clips-1");
    std::fs::create_dir_all(&folder).unwrap();
    let image = format!("testsrc2=size=320x180:rate={RATE}:duration={FLASH_CLIP_SECONDS},format=yuv420p");
    let sound = format!("sine=frequency=440:sample_rate=48000:duration={FLASH_CLIP_SECONDS}");
    let encoder = "-c:v libx264 -preset ultrafast -profile:v baseline -bf 0 -sc_threshold 0 -f h264";
    let mut arguments = vec!["-f", "lavfi", "-i", image.as_str(), "-g", "15", "-keyint_min", "15", "-b:v", "500k"];
    arguments.extend(encoder.split(' '));
    let video = made(&folder, "dense.h264", &arguments).await;
    let encoder = ["-f", "lavfi", "-i", &sound, "-c:a", "libopus", "-b:a", "32k", "-f", "ogg"];
    let audio = made(&folder, "dense.ogg", &encoder).await;
    Files { video, audio }
}

/// Makes 20 s of a small moving picture at this many frames per second, in H264 with a keyframe every 10 s.
pub(crate) async fn slow_clip(rate: u32) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e-clips-1");
    std::fs::create_dir_all(&folder).unwrap();
    let image = format!("testsrc2=size=640x360:rate={rate}:duration=20,format=yuv420p");
    let distance = (rate * 10).to_string();
    let mut arguments = vec!["-f", "lavfi", "-i", image.as_str(), "-g", &distance, "-keyint_min", &distance];
    arguments.extend("-c:v libx264 -preset veryfast -crf 35 -threads 1 -bf 0 -sc_threshold 0 -f h264".split(' '));
    made(&folder, &format!("slow-{rate}.h264"), &arguments).await
}

async fn made(folder: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let path = folder.join(name);
    if !path.exists() {
        let unfinished = folder.join(format!("{name}.{}.part", std::process::id()));
        let unfinished_name = unfinished.to_str().unwrap().to_owned();
        let whole: Vec<&str> = [&["-v", "error", "-y"], arguments, &[unfinished_name.as_str()]].concat();
        run("ffmpeg", &whole).await;
        std::fs::rename(&unfinished, &path).unwrap();
    }
    path
}
