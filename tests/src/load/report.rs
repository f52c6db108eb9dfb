//! The table, and whether the bars are met.

use super::Measured;
use super::ours::RECORDING;
use serde::Serialize;
use std::fmt::Write;

/// What our server must keep to, for each number of viewers.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bars {
    /// Percent of packets that do not come even by retransmission: less than this.
    pub loss_percent: f64,
    /// CPU time of a packet, as a multiple of the floor's: at most.
    pub times_floor: f64,
    /// CPU time of a packet, as a share of Janus's: at most.
    pub share_of_janus: f64,
    /// CPU time of a packet while it records, as a multiple of the time while it does not: at most.
    pub times_unrecorded: f64,
    /// Bytes of memory for each viewer: at most.
    pub memory_per_viewer: f64,
}

impl Default for Bars {
    fn default() -> Self {
        Self {
            loss_percent: 0.1,
            times_floor: 2.0,
            share_of_janus: 1.0 / 3.0,
            times_unrecorded: 1.1,
            memory_per_viewer: 100_000.0,
        }
    }
}

/// One bar and what was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Viewers.
    pub viewers: usize,
    /// Which bar.
    pub bar: &'static str,
    /// As measured.
    pub value: f64,
    /// The most that it may be.
    pub limit: f64,
    /// Whether it is.
    pub met: bool,
}

/// All numbers of viewers that were measured, ascending.
fn sizes(measured: &[Measured]) -> Vec<usize> {
    let mut sizes: Vec<usize> = measured.iter().map(|one| one.viewers).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// Median over the rounds of one subject at one size.
fn median(measured: &[Measured], subject: &str, viewers: usize, of: impl Fn(&Measured) -> Option<f64>) -> Option<f64> {
    let rounds = measured.iter().filter(|one| one.subject == subject && one.viewers == viewers);
    let mut values: Vec<f64> = rounds.filter_map(of).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len().checked_sub(1)? / 2;
    Some((values[middle] + values[values.len() / 2]) / 2.0)
}

/// Each bar at each size; those whose other side was not measured are left out.
pub fn verdicts(measured: &[Measured], bars: &Bars) -> Vec<Outcome> {
    let mut all = Vec::new();
    for viewers in sizes(measured) {
        let of = |subject, what: fn(&Measured) -> Option<f64>| median(measured, subject, viewers, what);
        let cost = |subject| of(subject, |one| Some(one.cpu_us_per_packet));
        let Some(ours) = cost("media-server") else { continue };
        let mut push = |bar, value: Option<f64>, limit: f64, below: bool| {
            let Some(value) = value else { return };
            all.push(Outcome { viewers, bar, value, limit, met: if below { value < limit } else { value <= limit } });
        };
        push("loss, %", of("media-server", |one| one.loss_percent), bars.loss_percent, true);
        push("CPU, times the floor", cost("floor").map(|floor| ours / floor), bars.times_floor, false);
        push("CPU, share of Janus", cost("Janus").map(|janus| ours / janus), bars.share_of_janus, false);
        let recording = cost(RECORDING).map(|recording| recording / ours);
        push("CPU while recording, times that without", recording, bars.times_unrecorded, false);
        push("loss while recording, %", of(RECORDING, |one| one.loss_percent), bars.loss_percent, true);
        let memory = of("media-server", |one| Some(one.memory_per_viewer / 1000.0));
        push("memory of a viewer, kB", memory, bars.memory_per_viewer / 1000.0, false);
        push("packets not authentic or damaged", of("media-server", |one| Some(one.bad as f64)), 0.0, false);
    }
    all
}

/// A table in Markdown: medians over the rounds.
pub fn table(measured: &[Measured]) -> String {
    let mut out = String::from(
        "| server | viewers | CPU µs a packet | × floor | share of Janus | delivered % | loss % | memory a viewer | \
         first packet p50 / p95 ms | keyframe p50 / p95 ms | SRTP |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for viewers in sizes(measured) {
        for subject in ["floor", "media-server", RECORDING, "Janus"] {
            let of = |what: fn(&Measured) -> Option<f64>| median(measured, subject, viewers, what);
            let Some(cost) = of(|one| Some(one.cpu_us_per_packet)) else { continue };
            let against = |other: &str| {
                let other = median(measured, other, viewers, |one| Some(one.cpu_us_per_packet));
                number(other.map(|other| cost / other).filter(|_| subject != "floor"), 2)
            };
            let memory = of(|one| Some(one.memory_per_viewer / 1000.0)).filter(|_| subject != "floor");
            let profile = measured.iter().find(|one| one.subject == subject).and_then(|one| one.profile.clone());
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "| {subject} | {viewers} | {cost:.2} | {} | {} | {} | {} | {} | {} / {} | {} / {} | {} |",
                against("floor"),
                against("Janus"),
                number(of(|one| one.delivered_percent), 2),
                number(of(|one| one.loss_percent), 3),
                memory.map_or("–".to_owned(), |memory| format!("{memory:.0} kB")),
                number(of(|one| one.first_packet_p50_ms), 0),
                number(of(|one| one.first_packet_p95_ms), 0),
                number(of(|one| one.first_keyframe_p50_ms), 0),
                number(of(|one| one.first_keyframe_p95_ms), 0),
                profile.unwrap_or_else(|| "–".to_owned()),
            );
        }
    }
    out
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(subject: &'static str, cost: f64) -> Measured {
        Measured {
            subject,
            viewers: 10,
            seconds: 20.0,
            camera_packets: 6800,
            packets: 68_000,
            cpu_seconds: 0.0,
            cpu_us_per_packet: cost,
            delivered_percent: Some(100.0),
            loss_percent: Some(0.0),
            repaired: 0,
            opened: 1,
            bad: 0,
            memory_per_viewer: 50_000.0,
            memory: 0,
            first_packet_p50_ms: None,
            first_packet_p95_ms: None,
            first_keyframe_p50_ms: None,
            first_keyframe_p95_ms: None,
            profile: None,
            generator_cpu_seconds: 0.0,
            camera_latest_ms: 0.0,
        }
    }

    #[test]
    fn recording_is_compared_with_not_recording() {
        let met = |recording| {
            let measured = [one("media-server", 2.0), one(RECORDING, recording)];
            verdicts(&measured, &Bars::default()).iter().all(|one| one.met)
        };
        assert!(met(2.2) && !met(2.21));
    }

    #[test]
    fn a_missed_bar_is_told_by_medians() {
        let measured =
            [one("floor", 2.0), one("media-server", 9.0), one("media-server", 3.8), one("media-server", 3.9)];
        let met = |measured: &[Measured]| -> Vec<(&str, bool)> {
            verdicts(measured, &Bars::default()).iter().map(|one| (one.bar, one.met)).collect()
        };
        assert!(met(&measured).iter().all(|(_, met)| *met), "{:?}", met(&measured));
        let slower = [one("floor", 1.0), one("media-server", 2.1), one("Janus", 6.0)];
        let missed: Vec<&str> = met(&slower).iter().filter(|(_, met)| !met).map(|(bar, _)| *bar).collect();
        assert_eq!(missed, ["CPU, times the floor", "CPU, share of Janus"]);
        let mut lossy = [one("media-server", 1.0)];
        lossy[0].loss_percent = Some(0.1);
        assert!(met(&lossy).contains(&("loss, %", false)));
        assert!(table(&slower).contains("| media-server | 10 | 2.10 | 2.10 | 0.35 |"), "{}", table(&slower));
    }
}
