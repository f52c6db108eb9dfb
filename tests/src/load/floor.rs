//! The floor: the program `floor` seals and sends the same packets to the same sockets, and does nothing else.

use super::run::{Joined, Plan, Subject};
use super::{LoadError, Process};
use crate::peer::Identity;
use crate::source::Source;
use crate::sys::Udp;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// See the module.
pub struct Floor {
    program: PathBuf,
    destinations: Vec<SocketAddr>,
    process: Option<Process>,
    folder: TempDir,
}

impl Floor {
    /// Will run `program` once all sockets are known.
    pub fn new(program: &Path) -> Result<Self, LoadError> {
        let (program, folder) = (program.to_owned(), tempfile::tempdir()?);
        Ok(Self { program, destinations: Vec::new(), process: None, folder })
    }
}

impl Subject for Floor {
    fn name(&self) -> &'static str {
        "floor"
    }

    fn camera(&mut self, _: &Identity) -> Result<Option<Source>, LoadError> {
        Ok(None)
    }

    fn join(&mut self, _: &Identity, plan: &Plan) -> Result<Joined, LoadError> {
        let socket = Udp::bind(IpAddr::V4(Ipv4Addr::LOCALHOST), plan.coalesce)?;
        self.destinations.push(socket.local_addr()?);
        Ok(Joined { socket, viewer: None, posted: Instant::now() })
    }

    fn ready(&mut self) -> Result<(), LoadError> {
        let mut command = Command::new(&self.program);
        command.args(self.destinations.iter().map(ToString::to_string));
        self.process = Some(Process::start(command, &self.folder.path().join("log"))?);
        Ok(())
    }

    fn cpu(&mut self) -> Result<Duration, LoadError> {
        let Some(process) = &mut self.process else { return Ok(Duration::ZERO) };
        process.check()?;
        Ok(process.cpu()?)
    }

    fn memory(&mut self) -> Result<u64, LoadError> {
        self.process.as_ref().map_or(Ok(0), |process| Ok(process.memory()?))
    }

    fn is_server(&self) -> bool {
        false
    }
}
