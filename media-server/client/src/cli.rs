//! The commands of `media-client`: data is written to standard output, messages and progress to standard error.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use futures_util::future::join_all;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::camera::{Camera, CameraStats, Ended};
use crate::error::Error;
use crate::probe;
use crate::viewer::{TrackReport, Viewer, ViewerReport, Watching};
use ingest::source::{Clip, FrameRate, Source};

/// A headless camera and viewer for WHIP and WHEP servers
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play encoded files into a room, in real time
    Camera(CameraArgs),
    /// Watch a room and count what comes
    View(ViewArgs),
    /// Publish a clip, watch it, and give a verdict as the exit code: 0 if media passes through the server, 1 if not
    Probe(probe::Args),
    /// Print the completions for a shell to stdout
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff) to stdout
    Man,
}

#[derive(Debug, clap::Args)]
struct CameraArgs {
    /// WHIP endpoint, as http://HOST:8080/whip/ROOM
    url: String,
    /// H264 (Annex B) or IVF (VP8, VP9, AV1) file; the built-in clip if neither this nor --audio is given
    #[arg(long, value_name = "FILE")]
    video: Option<PathBuf>,
    /// Ogg Opus file
    #[arg(long, value_name = "FILE")]
    audio: Option<PathBuf>,
    /// Frames per second of an H264 file [default: as the file says, else 30]
    #[arg(long, value_name = "RATE")]
    fps: Option<FrameRate>,
    /// Begin again at the end
    #[arg(long = "loop")]
    repeat: bool,
    /// Bytes of the largest RTP packet before encryption, from 300 to 1460
    #[arg(long, value_name = "BYTES", default_value_t = ingest::packetize::PACKET_SIZE as u16, value_parser = clap::value_parser!(u16).range(300..=1460))]
    packet_size: u16,
    /// Stop after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = probe::seconds)]
    seconds: Option<f64>,
    /// Bearer token
    #[arg(long, value_name = "TOKEN", env = "MEDIA_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Certificates (PEM) of the only authorities to trust for https [default: the system's]
    #[arg(long, value_name = "FILE", value_parser = probe::authorities)]
    ca: Option<probe::Authorities>,
    /// Write the numbers as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ViewArgs {
    /// WHEP endpoint, as http://HOST:8080/whep/ROOM
    url: String,
    /// Viewers, all in this process
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    viewers: u16,
    /// Stop after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = probe::seconds)]
    seconds: f64,
    /// Milliseconds between the starts of two viewers
    #[arg(long, value_name = "MS", default_value_t = 0)]
    stagger: u64,
    /// Bearer token
    #[arg(long, value_name = "TOKEN", env = "MEDIA_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Certificates (PEM) of the only authorities to trust for https [default: the system's]
    #[arg(long, value_name = "FILE", value_parser = probe::authorities)]
    ca: Option<probe::Authorities>,
    /// Write the numbers as JSON
    #[arg(long)]
    json: bool,
}

/// What all viewers together saw.
#[derive(Debug, Serialize)]
struct ViewSummary {
    viewers: usize,
    failed: usize,
    packets: u64,
    bytes: u64,
    lost: u64,
    recovered: u64,
    out_of_order: u64,
    frames: u64,
    first_packet_ms: Percentiles,
    first_keyframe_ms: Percentiles,
    each: Vec<ViewerReport>,
    errors: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
struct Percentiles {
    p50: Option<f64>,
    p95: Option<f64>,
    max: Option<f64>,
}

impl Percentiles {
    fn of(mut values: Vec<f64>) -> Percentiles {
        values.sort_by(f64::total_cmp);
        // The nearest rank.
        let at = |share: f64| values.get((share * values.len() as f64).ceil().max(1.0) as usize - 1).copied();
        Percentiles { p50: at(0.5), p95: at(0.95), max: at(1.0) }
    }

    fn text(&self) -> String {
        match (self.p50, self.p95, self.max) {
            (Some(p50), Some(p95), Some(max)) => format!("p50 {p50:.1} ms, p95 {p95:.1} ms, max {max:.1} ms"),
            _ => "none".to_owned(),
        }
    }
}

/// Runs a command; the result is the exit code.
pub async fn run(cli: Cli) -> u8 {
    let done = match cli.command {
        Command::Camera(args) => camera(args).await,
        Command::View(args) => view(args).await,
        Command::Probe(args) => return probe(&args).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "media-client", &mut script);
            print(&String::from_utf8_lossy(&script));
            Ok(0)
        }
        Command::Man => return man(),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            tell(&error);
            1
        }
    }
}

/// Writes the manual page; the result is the exit code.
fn man() -> u8 {
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
    print(&String::from_utf8_lossy(&page));
    u8::from(rendered.is_err())
}

/// Probes and writes the verdict; the result is the exit code.
async fn probe(args: &probe::Args) -> u8 {
    let bar = spinner();
    bar.set_message("publishing and watching");
    let verdict = probe::run(args).await;
    bar.finish_and_clear();
    if args.json {
        print_json(&verdict)
    } else {
        print(&verdict.text())
    }
    verdict.exit_code()
}

async fn camera(args: CameraArgs) -> Result<u8, Error> {
    let source = if args.video.is_none() && args.audio.is_none() {
        ingest::demo::source()
    } else {
        let video = args.video.as_deref().map(|path| Clip::open(path, args.fps)).transpose()?;
        let audio = args.audio.as_deref().map(|path| Clip::open(path, None)).transpose()?;
        let source = Source::new(video, audio)?;
        if args.repeat { source.repeated() } else { source }
    };
    let bar = spinner();
    bar.set_message(format!("connecting to {}", args.url));
    let camera = Camera::new(args.url, source)
        .with_packet_size(args.packet_size.into())
        .with_token(args.token)
        .with_authorities(args.ca.map(|ca| ca.0));
    let mut camera = camera.start().await?;
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    let limit = stop_after(args.seconds);
    tokio::pin!(limit);
    let ended = loop {
        tokio::select! {
            ended = camera.ended() => break Some(ended),
            () = &mut limit => break None,
            _ = ticks.tick() => {
                let stats = camera.stats();
                let frames = stats.video.or(stats.audio).map_or(0, |track| track.frames);
                bar.set_message(format!("sending: {:.0} s, {frames} frames", stats.seconds));
            }
        }
    };
    let stats = camera.stats();
    let stopped = camera.stop().await;
    bar.finish_and_clear();
    if args.json {
        print_json(&stats)
    } else {
        print(&camera_text(&stats))
    }
    if ended == Some(Ended::Lost) {
        return Err(crate::peer::PeerError::Lost.into());
    }
    stopped.map(|_| 0)
}

async fn view(args: ViewArgs) -> Result<u8, Error> {
    let bar = ProgressBar::new((args.seconds * 1000.0) as u64);
    if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {msg}") {
        bar.set_style(style);
    }
    bar.set_message("connecting");
    let starts = (0..args.viewers).map(|index| {
        let viewer = Viewer::new(args.url.clone())
            .with_token(args.token.clone())
            .with_authorities(args.ca.clone().map(|ca| ca.0));
        let delay = Duration::from_millis(args.stagger * u64::from(index));
        // A task each, so that one is not kept waiting while another makes its keys.
        let task = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            viewer.start().await
        });
        async move { task.await.unwrap_or_else(|_| Err(crate::peer::PeerError::Lost.into())) }
    });
    let (mut watching, mut errors): (Vec<Watching>, Vec<Error>) = (Vec::new(), Vec::new());
    for started in join_all(starts).await {
        match started {
            Ok(viewer) => watching.push(viewer),
            Err(error) => errors.push(error),
        }
    }
    if watching.is_empty() && !errors.is_empty() {
        bar.finish_and_clear();
        return Err(errors.remove(0));
    }
    let start = tokio::time::Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    let limit = stop_after(Some(args.seconds));
    tokio::pin!(limit);
    loop {
        tokio::select! {
            () = &mut limit => break,
            _ = ticks.tick() => {
                let packets: u64 = watching.iter().map(|viewer| total(&viewer.report(), |track| track.packets)).sum();
                bar.set_position(start.elapsed().as_millis() as u64);
                bar.set_message(format!("{} viewers, {packets} packets", watching.len()));
            }
        }
    }
    let mut each = Vec::new();
    for (report, stopped) in join_all(watching.into_iter().map(|viewer| async {
        let report = viewer.report();
        (report, viewer.stop().await)
    }))
    .await
    {
        each.push(report);
        errors.extend(stopped.err());
    }
    bar.finish_and_clear();
    let summary = summarise(args.viewers.into(), each, &errors);
    if args.json {
        print_json(&summary)
    } else {
        print(&view_text(&summary))
    }
    errors.iter().for_each(tell);
    Ok(u8::from(!errors.is_empty()))
}

/// The time, or Ctrl-C.
async fn stop_after(seconds: Option<f64>) {
    let time = async {
        match seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs_f64(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = time => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

fn total(report: &ViewerReport, of: impl Fn(&TrackReport) -> u64) -> u64 {
    [&report.video, &report.audio].into_iter().flatten().map(of).sum()
}

fn summarise(viewers: usize, each: Vec<ViewerReport>, errors: &[Error]) -> ViewSummary {
    let sum = |of: fn(&TrackReport) -> u64| each.iter().map(|report| total(report, of)).sum();
    // Of the picture; of the sound in a room without one.
    let times = |of: fn(&TrackReport) -> Option<f64>| {
        let first = each.iter().filter_map(|report| report.video.as_ref().or(report.audio.as_ref()).and_then(of));
        Percentiles::of(first.collect())
    };
    ViewSummary {
        viewers,
        failed: viewers.saturating_sub(each.len()),
        packets: sum(|track| track.packets),
        bytes: sum(|track| track.bytes),
        lost: sum(|track| track.lost),
        recovered: sum(|track| track.recovered),
        out_of_order: sum(|track| track.out_of_order),
        frames: sum(|track| track.frames),
        first_packet_ms: times(|track| track.first_packet_ms),
        first_keyframe_ms: times(|track| track.first_keyframe_ms),
        errors: errors.iter().map(ToString::to_string).collect(),
        each,
    }
}

fn view_text(summary: &ViewSummary) -> String {
    let mut lines = Vec::new();
    for (index, report) in summary.each.iter().enumerate() {
        for track in [&report.video, &report.audio].into_iter().flatten() {
            let milliseconds = |at: Option<f64>| at.map_or("-".to_owned(), |at| format!("{at:.1}"));
            lines.push(format!(
                "{index:>4} {:<5} packets {:>7} bytes {:>10} lost {:>4} recovered {:>4} out-of-order {:>3} frames {:>6} keyframes {:>4} first packet {:>7} ms, keyframe {:>7} ms",
                track.codec.to_string(), track.packets, track.bytes, track.lost, track.recovered, track.out_of_order,
                track.frames, track.keyframes, milliseconds(track.first_packet_ms), milliseconds(track.first_keyframe_ms)
            ));
        }
        if report.video.is_none() && report.audio.is_none() {
            lines.push(format!("{index:>4} connected in {:.1} ms, and no packet came", report.connected_ms));
        }
    }
    lines.push(format!(
        "{} of {} viewers: {} packets, {} lost, {} recovered; first packet {}; first keyframe {}",
        summary.each.len(),
        summary.viewers,
        summary.packets,
        summary.lost,
        summary.recovered,
        summary.first_packet_ms.text(),
        summary.first_keyframe_ms.text()
    ));
    lines.join("\n")
}

fn camera_text(stats: &CameraStats) -> String {
    let mut lines = vec![format!(
        "connected in {:.0} ms (answer {:.0} ms), sent for {:.1} s",
        stats.connected_ms, stats.answer_ms, stats.seconds
    )];
    for track in [&stats.video, &stats.audio].into_iter().flatten() {
        lines.push(format!(
            "{:<5} frames {} keyframes {} packets {} bytes {}",
            track.codec.to_string(),
            track.frames,
            track.keyframes,
            track.packets,
            track.bytes
        ));
    }
    let feedback = &stats.feedback;
    lines.push(format!(
        "asked for: {} packets ({} sent again), {} keyframes (a file cannot make them); {:.1} % lost at the last report",
        feedback.nacked,
        feedback.retransmitted,
        feedback.picture_loss_indications + feedback.full_intra_requests,
        100.0 * feedback.fraction_lost
    ));
    lines.join("\n")
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn print(text: &str) {
    // A reader that has gone away has read enough.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn print_json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(json) => print(&json),
        Err(error) => tracing::error!(%error, "the numbers cannot be written as JSON"),
    }
}

fn tell(error: &Error) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "error: {error}");
    if let Some(fix) = error.fix() {
        let _ = writeln!(stderr, "fix: {fix}");
    }
    if let Some((local, remote)) = error.candidates() {
        let _ = writeln!(stderr, "tried: from {} to {}", local.join(", "), remote.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn percentiles_take_the_nearest_rank() {
        let found = Percentiles::of((1..=20).map(f64::from).collect());
        assert_eq!((found.p50, found.p95, found.max), (Some(10.0), Some(19.0), Some(20.0)));
        assert_eq!(Percentiles::of(Vec::new()).p50, None);
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for arguments in [
            &["media-client", "camera", "--fps", "0", "http://a/whip/b"][..],
            &["media-client", "view", "-n", "0", "http://a/whep/b"],
            &["media-client", "view", "--seconds", "-1", "http://a/whep/b"],
            &["media-client", "view"],
        ] {
            assert!(Cli::try_parse_from(arguments).is_err(), "{arguments:?}");
        }
    }
}
