//! The relay's process: started, signalled, waited for.

use super::error::RelayError;
use rustix::process::{Pid, Signal, kill_process};
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

/// coturn 4.6 ends at once when it is told to, 4.17 within five seconds.
const END_LIMIT: Duration = Duration::from_secs(8);
/// Before that a signal could come before coturn has said what it does with it, which would end it.
const SIGNALS_AFTER: Duration = Duration::from_secs(2);

/// A running relay. Dropping it kills it.
pub(super) struct Program {
    child: Child,
    pub(super) started: Instant,
}

impl Program {
    /// Runs it; its output is that of this process.
    pub(super) fn start(program: &[String], arguments: &[String]) -> Result<Program, RelayError> {
        let (name, flags) =
            program.split_first().map_or(("turnserver", &[][..]), |(name, flags)| (name.as_str(), flags));
        let child = Command::new(name).args(flags).args(arguments).stdin(Stdio::null()).kill_on_drop(true).spawn();
        let child = child.map_err(|source| RelayError::Program { program: name.to_owned(), source })?;
        Ok(Program { child, started: Instant::now() })
    }

    /// Its end, whenever that is.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Has it read its certificate anew; false while it is too young to be told.
    pub(super) fn reload(&self) -> bool {
        let old_enough = self.started.elapsed() >= SIGNALS_AFTER;
        if old_enough {
            self.signal(Signal::USR2);
        }
        old_enough
    }

    /// Tells it to end and waits until it has; kills it if it does not.
    pub(super) async fn end(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM);
        match timeout(END_LIMIT, self.child.wait()).await {
            Ok(ended) => ended,
            Err(_) => {
                tracing::warn!("the relay does not end: killing it");
                self.child.start_kill()?;
                self.child.wait().await
            }
        }
    }

    fn signal(&self, signal: Signal) {
        // None once it was waited for; until then the number is its own.
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(Err(error)) = pid.map(|pid| kill_process(pid, signal)) {
            tracing::warn!(%error, ?signal, "the relay cannot be signalled");
        }
    }
}

/// As a shell tells it: 128 and more for a signal.
pub(super) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// The end that it was asked for is a good one.
pub(super) fn exit_code_when_asked(status: ExitStatus) -> u8 {
    if status.signal() == Some(Signal::TERM.as_raw()) { 0 } else { exit_code(status) }
}
