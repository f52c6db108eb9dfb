//! The load test as one program: floor, our server and Janus in turn, at each number of viewers; a table, JSON, a verdict.
//!
//! `tests/load/run` builds everything and calls it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it reports to whoever runs it")]

use clap::Parser;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use streamsession_tests::load::{
    Bars, Floor, Janus, LoadError, Measured, Ours, Plan, Subject, measure, table, verdicts,
};
use streamsession_tests::peer::Identity;

/// One camera, N viewers: CPU time, loss, memory and start-up of our server, beside a floor program and Janus.
#[derive(Debug, Parser)]
#[command(after_help = "Exit codes: 0 all bars met, 1 a bar missed, 2 nothing could be measured.")]
struct Args {
    /// Numbers of viewers
    #[arg(long, value_delimiter = ',', default_value = "10,100")]
    viewers: Vec<usize>,
    /// Seconds of each window
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Rounds; the table shows medians
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Subjects: floor, ours, recording (our server while it records), janus
    #[arg(long, value_delimiter = ',', default_value = "floor,ours,janus")]
    subjects: Vec<String>,
    /// Viewers take every datagram by itself, so that the server pays for segmenting, too
    #[arg(long)]
    no_coalesce: bool,
    /// Milliseconds that the viewers rest between two looks at their sockets
    #[arg(long, default_value_t = 4)]
    nap: u64,
    /// One packet in so many is decrypted and checked
    #[arg(long, default_value_t = 50)]
    sample: u64,
    /// Our server
    #[arg(long, default_value = "media-server")]
    server: PathBuf,
    /// The floor program
    #[arg(long, default_value = "floor")]
    floor: PathBuf,
    /// Where the numbers go as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<bool, LoadError> {
    let identity = Identity::generate()?;
    let mut measured: Vec<Measured> = Vec::new();
    for round in 1..=args.rounds {
        for viewers in &args.viewers {
            for name in &args.subjects {
                let plan = Plan {
                    viewers: *viewers,
                    window: Duration::from_secs(args.seconds),
                    warm_up: Duration::from_secs(if name == "floor" { 0 } else { 9 }),
                    spacing: Duration::from_millis(20),
                    settle: Duration::from_secs(3),
                    nap: Duration::from_millis(args.nap),
                    coalesce: !args.no_coalesce,
                    sample: args.sample,
                };
                let Some(mut subject) = subject(args, name)? else { continue };
                let one = measure(&mut *subject, &plan, &identity)?;
                eprintln!(
                    "round {round}: {name}, {viewers} viewers: {:.2} µs a packet, {} packets, loss {}, {:.0} kB a viewer; \
                     generator {:.0} % of a core, camera at most {:.0} ms late",
                    one.cpu_us_per_packet,
                    one.packets,
                    one.loss_percent.map_or("not counted".into(), |loss| format!("{loss:.3} %")),
                    one.memory_per_viewer / 1000.0,
                    one.generator_cpu_seconds * 100.0 / one.seconds,
                    one.camera_latest_ms,
                );
                measured.push(one);
            }
        }
    }
    let bars = Bars::default();
    let outcomes = verdicts(&measured, &bars);
    println!("{}", table(&measured));
    for outcome in &outcomes {
        let (word, sign) = if outcome.met { ("met   ", "≤") } else { ("MISSED", ">") };
        println!(
            "{word}  {} viewers: {}: {:.3} {sign} {:.3}",
            outcome.viewers, outcome.bar, outcome.value, outcome.limit
        );
    }
    if let Some(path) = &args.json {
        let document = json!({"machine": machine(), "bars": bars, "outcomes": outcomes, "measurements": measured});
        std::fs::write(path, format!("{document:#}\n"))?;
    }
    Ok(outcomes.iter().all(|outcome| outcome.met))
}

fn subject(args: &Args, name: &str) -> Result<Option<Box<dyn Subject>>, LoadError> {
    Ok(match name {
        "floor" => Some(Box::new(Floor::new(&args.floor)?)),
        "ours" => Some(Box::new(Ours::start(&args.server, false)?)),
        "recording" => Some(Box::new(Ours::start(&args.server, true)?)),
        "janus" if Janus::is_installed() => Some(Box::new(Janus::start()?)),
        "janus" => {
            eprintln!("Janus is not installed (Debian: apt-get install janus): left out");
            None
        }
        other => return Err(LoadError::Server(format!("{other} is none of floor, ours, recording, janus"))),
    })
}

/// What it ran on.
fn machine() -> serde_json::Value {
    let line = |path: &str, prefix: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let found = text.lines().find_map(|line| line.strip_prefix(prefix)).unwrap_or_default();
        found.trim_start_matches(['\t', ' ', ':']).trim().to_owned()
    };
    json!({
        "processor": line("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory": line("/proc/meminfo", "MemTotal"),
        "kernel": line("/proc/sys/kernel/osrelease", ""),
        "load": line("/proc/loadavg", ""),
    })
}
