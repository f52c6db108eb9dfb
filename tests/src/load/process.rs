//! A server process under test: started, watched from outside, ended by its own process id.

use crate::sys;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to end before it is killed.
const END: Duration = Duration::from_secs(15);

/// Why a process is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// Which.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ended by itself.
    #[error("{program} ended ({status}); its log is {log}")]
    Ended {
        /// Which.
        program: PathBuf,
        /// How.
        status: String,
        /// Its last words.
        log: String,
    },
    /// It cannot be watched.
    #[error("cannot read what process {pid} uses: {source}")]
    Watch {
        /// Which.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
}

/// See the module.
pub struct Process {
    program: PathBuf,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints goes to the file `log`.
    pub fn start(mut command: Command, log: &Path) -> Result<Self, ProcessError> {
        let program = PathBuf::from(command.get_program());
        let failed = |source| ProcessError::Start { program: program.clone(), source };
        let file = File::create(log).map_err(failed)?;
        let copy = file.try_clone().map_err(failed)?;
        sys::end_with_parent(&mut command);
        let child = command.stdin(Stdio::null()).stdout(file).stderr(copy).spawn().map_err(failed)?;
        Ok(Self { program, child, log: log.to_owned() })
    }

    /// Whether it still runs.
    pub fn check(&mut self) -> Result<(), ProcessError> {
        match self.child.try_wait() {
            Ok(Some(status)) => {
                let text = std::fs::read_to_string(&self.log).unwrap_or_default();
                let last: Vec<&str> = text.lines().rev().take(5).collect();
                let log = last.into_iter().rev().collect::<Vec<_>>().join(" / ");
                Err(ProcessError::Ended { program: self.program.clone(), status: status.to_string(), log })
            }
            _ => Ok(()),
        }
    }

    /// CPU time so far.
    pub fn cpu(&self) -> Result<Duration, ProcessError> {
        let pid = self.child.id();
        sys::process_cpu(pid).map_err(|source| ProcessError::Watch { pid, source })
    }

    /// Bytes of memory that are its own: proportional set size where the kernel tells it, else resident.
    pub fn memory(&self) -> Result<u64, ProcessError> {
        let pid = self.child.id();
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
        let text =
            read("smaps_rollup").or_else(|_| read("status")).map_err(|source| ProcessError::Watch { pid, source })?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:").or_else(|| line.strip_prefix("VmRSS:")));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
        Ok(kilobytes * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        sys::terminate(self.child.id());
        let deadline = Instant::now() + END;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
