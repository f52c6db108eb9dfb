//! Our server, as anyone starts it: WHIP in, WHEP out.

use super::run::{Joined, Plan, Subject, until};
use super::{LoadError, Process};
use crate::camera::{Behaviour, Camera};
use crate::http::Http;
use crate::peer::{IceRole, Identity, credentials};
use crate::sdp::{Description, Local, camera_offer, viewer_offer};
use crate::source::Source;
use crate::sys::Udp;
use crate::viewer::Viewer;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Its name in the table while it records.
pub(super) const RECORDING: &str = "media-server, recording";

/// See the module.
pub struct Ours {
    record: bool,
    http: Http,
    base: String,
    // Before the folder: it must have ended when that is removed.
    process: Process,
    _folder: TempDir,
}

impl Ours {
    /// Starts `program` on free loopback ports and waits until it is ready. With `record`, everything is recorded too.
    pub fn start(program: &Path, record: bool) -> Result<Self, LoadError> {
        let folder = tempfile::tempdir()?;
        let session = folder.path().join("session.yaml");
        let document = format!(
            "apiVersion: media.streamsession.io/v1alpha1\nkind: StreamSession\nmetadata:\n  name: load\nspec:\n  \
             limits: {{maxPublishers: 4, maxSubscribersPerRoom: 5000, maxBitrate: 20M}}\n  \
             recording: {{enabled: {record}}}\n  auth: {{mode: Open, acknowledgeOpen: true}}\n"
        );
        std::fs::write(&session, document)?;
        let (http_port, udp_port) = (free_tcp()?, free_udp()?);
        let mut command = Command::new(program);
        command
            .args([
                "--http",
                &format!("127.0.0.1:{http_port}"),
                "--udp-port",
                &udp_port.to_string(),
                "--rate-limit",
                "0",
            ])
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .arg("--session")
            .arg(&session);
        let mut process = Process::start(command, &folder.path().join("log"))?;
        let (http, base) = (Http::new()?, format!("http://127.0.0.1:{http_port}"));
        until("the server to be ready", || {
            process.check().is_err() || http.page(&format!("{base}/readyz")).is_ok_and(|(status, _)| status == 200)
        })?;
        process.check()?;
        Ok(Self { record, http, base, process, _folder: folder })
    }
}

fn free_tcp() -> std::io::Result<u16> {
    Ok(TcpListener::bind((LOCALHOST, 0))?.local_addr()?.port())
}

fn free_udp() -> std::io::Result<u16> {
    Ok(UdpSocket::bind((LOCALHOST, 0))?.local_addr()?.port())
}

impl Subject for Ours {
    fn name(&self) -> &'static str {
        if self.record { RECORDING } else { "media-server" }
    }

    fn camera(&mut self, identity: &Identity) -> Result<Option<Source>, LoadError> {
        let (socket, ice, ssrcs) = (Udp::bind(LOCALHOST, false)?, credentials(), [11, 12, 13]);
        let local = Local { ice: &ice, fingerprint: identity.fingerprint(), address: socket.local_addr()? };
        let session = self.http.offer(&format!("{}/whip/load", self.base), camera_offer(&local, ssrcs))?;
        let description = Description::parse(&session.answer)?;
        let behaviour = Behaviour { responsive: false, first_sequence: 1, ssrcs };
        let camera = Camera::new(Instant::now(), identity, ice, reachable(description), behaviour);
        Ok(Some(Source::webrtc(socket, camera)?))
    }

    fn join(&mut self, identity: &Identity, plan: &Plan) -> Result<Joined, LoadError> {
        let (socket, ice) = (Udp::bind(LOCALHOST, plan.coalesce)?, credentials());
        let local = Local { ice: &ice, fingerprint: identity.fingerprint(), address: socket.local_addr()? };
        let offer = viewer_offer(&local);
        let posted = Instant::now();
        let session = self.http.offer(&format!("{}/whep/load", self.base), offer)?;
        let description = reachable(Description::parse(&session.answer)?);
        let viewer = Viewer::new(Instant::now(), identity, IceRole::Controlling, ice, description, plan.sample);
        Ok(Joined { socket, viewer: Some(viewer), posted })
    }

    fn cpu(&mut self) -> Result<Duration, LoadError> {
        self.process.check()?;
        Ok(self.process.cpu()?)
    }

    fn memory(&mut self) -> Result<u64, LoadError> {
        Ok(self.process.memory()?)
    }
}

/// The candidates that a socket on the IPv4 loopback can reach, best first.
fn reachable(mut description: Description) -> Description {
    let candidates = &mut description.remote.candidates;
    candidates.retain(|candidate| candidate.is_ipv4());
    candidates.sort_by_key(|candidate| !candidate.ip().is_loopback());
    candidates.truncate(4);
    description
}
