//! Clips that ffmpeg makes once for all tests, as frames.

use std::{path::PathBuf, process::Command, sync::OnceLock};

use recorder::Codec;

/// Seconds that a clip lasts.
pub const LENGTH: u32 = 5;
/// Frames a second.
pub const RATE: u32 = 25;

/// Frames of one track in the form of its file format.
pub type Frames = Vec<Vec<u8>>;

fn directory() -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY
        .get_or_init(|| {
            let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("clips");
            std::fs::create_dir_all(&directory).unwrap();
            directory
        })
        .clone()
}

/// Runs ffmpeg once for this name; the file stays for later runs.
fn encode(name: &str, arguments: &str) -> Vec<u8> {
    let path = directory().join(name);
    if !path.exists() {
        let partial = directory().join(format!("{}-{:?}-{name}", std::process::id(), std::thread::current().id()));
        let status = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-f", "lavfi"])
            .args(arguments.split(' '))
            .arg(&partial)
            .stdin(std::process::Stdio::null())
            .status()
            .expect("ffmpeg is installed");
        assert!(status.success(), "{name}");
        std::fs::rename(&partial, &path).unwrap();
    }
    std::fs::read(path).unwrap()
}

/// Video of `width`x`height` with a keyframe each second.
pub fn video(codec: Codec, width: u32, height: u32) -> Frames {
    let input = format!("-i testsrc2=size={width}x{height}:rate={RATE}:duration={LENGTH} -pix_fmt yuv420p");
    match codec {
        Codec::H264 => annex_b(&encode(
            &format!("{width}x{height}.h264"),
            &format!(
                "{input} -c:v libx264 -profile:v baseline -preset ultrafast -g {RATE} -bsf:v h264_metadata=aud=insert -f h264"
            ),
        )),
        Codec::Vp8 => ivf(&encode(
            &format!("{width}x{height}-vp8.ivf"),
            &format!(
                "{input} -c:v libvpx -deadline realtime -cpu-used 8 -auto-alt-ref 0 -lag-in-frames 0 -g {RATE} -b:v 800k -f ivf"
            ),
        )),
        Codec::Vp9 => ivf(&encode(
            &format!("{width}x{height}-vp9.ivf"),
            &format!(
                "{input} -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -lag-in-frames 0 -g {RATE} -b:v 800k -f ivf"
            ),
        )),
        Codec::Av1 => ivf(&encode(
            &format!("{width}x{height}-av1.ivf"),
            &format!("{input} -c:v libaom-av1 -usage realtime -cpu-used 8 -lag-in-frames 0 -g {RATE} -b:v 800k -f ivf"),
        )),
        Codec::Opus => unreachable!("not video"),
    }
}

/// H.264 with a single IDR picture, the first one in decoding order, and the places in presentation order. A second apart
/// are recovery points: `refresh` spreads intra macroblocks over the frames behind them, otherwise they are I pictures of an
/// open GOP, with B-frames across its border.
pub fn without_idr(refresh: bool) -> (Frames, Vec<u32>) {
    let input = format!("-i testsrc2=size=320x240:rate={RATE}:duration={LENGTH} -pix_fmt yuv420p");
    let (name, params) = if refresh {
        ("refresh", "intra-refresh=1:bframes=0:rc-lookahead=0:sync-lookahead=0")
    } else {
        ("open-gop-b", "open-gop=1:bframes=1:b-adapt=0:b-pyramid=none")
    };
    let frames = annex_b(&encode(
        &format!("{name}.h264"),
        &format!(
            "{input} -c:v libx264 -preset ultrafast -g {RATE} -x264-params {params}:scenecut=0 -bsf:v h264_metadata=aud=insert -f h264"
        ),
    ));
    let places = places(&frames);
    (frames, places)
}

/// H.264 with B-frames, in decoding order; and for each frame its place in presentation order.
pub fn with_b_frames() -> (Frames, Vec<u32>) {
    let input = format!("-i testsrc2=size=320x240:rate={RATE}:duration={LENGTH} -pix_fmt yuv420p");
    let frames = annex_b(&encode(
        "b-frames.h264",
        &format!(
            "{input} -c:v libx264 -preset ultrafast -bf 2 -b_strategy 0 -g {RATE} -x264-params b-pyramid=none:b-adapt=0:scenecut=0 -bsf:v h264_metadata=aud=insert -f h264"
        ),
    ));
    let places = places(&frames);
    (frames, places)
}

/// Of each frame its place in presentation order: a P or I frame is placed after the run of B-frames that follows it.
fn places(frames: &[Vec<u8>]) -> Vec<u32> {
    let b = |frame: &Vec<u8>| units(frame).iter().any(|unit| unit[0] & 0x1f == 1 && unit[0] & 0x60 == 0);
    let mut places = vec![0; frames.len()];
    let mut place = 0;
    let mut at = 0;
    while at < frames.len() {
        let run = frames[at + 1..].iter().take_while(|frame| b(frame)).count();
        for n in 0..run {
            places[at + 1 + n] = place;
            place += 1;
        }
        places[at] = place;
        place += 1;
        at += run + 1;
    }
    places
}

/// Opus packets of 20 ms.
pub fn audio() -> Frames {
    let bytes = encode(
        "tone.opus",
        &format!("-i sine=frequency=440:sample_rate=48000:duration={LENGTH} -ac 2 -c:a libopus -b:a 64k -f ogg"),
    );
    ogg(&bytes).split_off(2)
}

/// NAL units without start codes.
pub fn units(annex_b: &[u8]) -> Vec<&[u8]> {
    let mut starts = Vec::new();
    for at in 0..annex_b.len().saturating_sub(3) {
        if annex_b[at..at + 3] == [0, 0, 1] {
            starts.push(at);
        }
    }
    let ends = starts.iter().skip(1).copied().chain([annex_b.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| {
            let unit = &annex_b[start + 3..end];
            // A start code of four bytes leaves its first here.
            let zeros = unit.iter().rev().take_while(|byte| **byte == 0).count();
            &unit[..unit.len() - zeros]
        })
        .collect()
}

/// Access units, each of which begins with a delimiter.
fn annex_b(bytes: &[u8]) -> Frames {
    let delimiter = [0, 0, 0, 1, 9];
    let starts: Vec<usize> = (0..bytes.len() - 5).filter(|&at| bytes[at..at + 5] == delimiter).collect();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts.iter().zip(ends).map(|(start, end)| bytes[*start..end].to_vec()).collect()
}

fn ivf(bytes: &[u8]) -> Frames {
    let mut rest = &bytes[32..];
    let mut frames = Vec::new();
    while rest.len() >= 12 {
        let size = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
        frames.push(rest[12..12 + size].to_vec());
        rest = &rest[12 + size..];
    }
    frames
}

fn ogg(mut rest: &[u8]) -> Frames {
    let mut packets = Vec::new();
    let mut partial = Vec::new();
    while rest.len() > 27 {
        let count = usize::from(rest[26]);
        let (lacing, mut body) = (&rest[27..27 + count], &rest[27 + count..]);
        for &size in lacing {
            partial.extend_from_slice(&body[..usize::from(size)]);
            body = &body[usize::from(size)..];
            if size < 255 {
                packets.push(std::mem::take(&mut partial));
            }
        }
        rest = body;
    }
    packets
}
