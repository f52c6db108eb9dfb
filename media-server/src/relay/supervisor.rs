//! The loop around coturn: it is started, what it reads is kept up to date, and its end is either wanted or repaired.
//!
//! Files are compared by what is in them, once a second: they are small, and a kubelet changes them by swapping a link
//! somewhere above, which watching the files themselves does not tell. A secret that cannot be read is said in the log,
//! and the last one stays good.

use super::args::RelayArgs;
use super::certificate::{Certificate, Fingerprint};
use super::configuration::{State, arguments, file};
use super::error::RelayError;
use super::program::{Program, exit_code, exit_code_when_asked};
use super::userdb::Userdb;
use crate::turn::SharedSecret;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A relay that lived so long did not die of how it was started.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// Early deaths in a row before it is given up: then the pod shows what is wrong.
const GIVE_UP_AFTER: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Runs the relay until it is to end, or is given up; gives the exit code.
pub(super) async fn supervise(args: &RelayArgs) -> Result<u8, RelayError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RelayError::System)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RelayError::System)?;
    let mut relay = Relay::prepare(args).await?;
    let mut early_deaths = 0;
    loop {
        let mut program = relay.start()?;
        let ended = tokio::select! {
            ended = relay.keep(&mut program) => ended?,
            _ = terminate.recv() => return end(&mut program).await,
            _ = interrupt.recv() => return end(&mut program).await,
        };
        let Some(status) = ended else { continue };
        early_deaths = if program.started.elapsed() < HEALTHY_AFTER { early_deaths + 1 } else { 0 };
        if early_deaths >= GIVE_UP_AFTER {
            tracing::error!(%status, "the relay dies each time it is started: its own log says why");
            return Ok(exit_code(status).max(1));
        }
        let pause = FIRST_PAUSE * 2_u32.pow(early_deaths);
        tracing::error!(%status, ?pause, "the relay died: starting it again");
        tokio::select! {
            () = sleep(pause) => {}
            _ = terminate.recv() => return Ok(0),
            _ = interrupt.recv() => return Ok(0),
        }
    }
}

async fn end(program: &mut Program) -> Result<u8, RelayError> {
    tracing::info!("ending the relay");
    program.end().await.map(exit_code_when_asked).map_err(RelayError::System)
}

/// What the relay is given, and what of it is known to be in force.
struct Relay<'a> {
    args: &'a RelayArgs,
    state: State,
    userdb: Userdb,
    secret: SharedSecret,
    certificate: Option<Certificate>,
    /// Of the certificate that the running relay has.
    served: Option<Fingerprint>,
    /// So that the log tells a trouble once.
    troubled: bool,
}

impl<'a> Relay<'a> {
    async fn prepare(args: &'a RelayArgs) -> Result<Relay<'a>, RelayError> {
        if args.min_port > args.max_port {
            return Err(RelayError::Ports { first: args.min_port, last: args.max_port });
        }
        let secret = SharedSecret::read(&args.secret_dir)?;
        let state = State::in_folder(&args.state_dir);
        private_folder(&state.folder).map_err(|source| RelayError::State { path: state.folder.clone(), source })?;
        let mut userdb = Userdb::create(&state.userdb, &args.realm).await?;
        userdb.replace(&secret).await?;
        let certificate = args.tls_dir.as_deref().map(Certificate::in_folder);
        Ok(Relay { args, state, userdb, secret, certificate, served: None, troubled: false })
    }

    fn start(&mut self) -> Result<Program, RelayError> {
        self.served = self.certificate.as_ref().and_then(Certificate::fingerprint);
        let certificate = self.certificate.as_ref().filter(|_| self.served.is_some());
        if let (Some(folder), None) = (&self.args.tls_dir, certificate) {
            tracing::warn!(folder = %folder.display(), "no TLS until tls.crt and tls.key are there");
        }
        let path = &self.state.file;
        let text = file(self.args, &self.state, certificate);
        write_private(path, &text).map_err(|source| RelayError::State { path: path.clone(), source })?;
        let arguments = arguments(self.args, &self.state);
        tracing::info!(
            listen = %self.args.relay_address, port = self.args.listen_port, tls = certificate.is_some(),
            peers = ?self.args.allow_peer, "starting the relay"
        );
        Program::start(&self.args.program, &arguments)
    }

    /// Keeps it up to date. Gives how it ended; `None` if it was ended to be started with other settings.
    async fn keep(&mut self, program: &mut Program) -> Result<Option<ExitStatus>, RelayError> {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ended = program.ended() => return ended.map(Some).map_err(RelayError::System),
                _ = ticks.tick() => {}
            }
            self.renew_secret().await;
            let now = self.certificate.as_ref().and_then(Certificate::fingerprint);
            if now.is_none() || now == self.served {
                continue;
            }
            if self.served.is_none() {
                tracing::info!("there is a certificate now: starting the relay again, with TLS");
                program.end().await.map_err(RelayError::System)?;
                return Ok(None);
            }
            if program.reload() {
                tracing::info!("another certificate: the relay reads it");
                self.served = now;
            }
        }
    }

    async fn renew_secret(&mut self) {
        let renewed = match SharedSecret::read(&self.args.secret_dir) {
            Ok(secret) if (&secret.current, &secret.previous) == (&self.secret.current, &self.secret.previous) => {
                Ok(())
            }
            Ok(secret) => self.userdb.replace(&secret).await.map(|()| {
                tracing::info!(older_one_too = secret.previous.is_some(), "another secret is good from now on");
                self.secret = secret;
            }),
            Err(error) => Err(error.into()),
        };
        match renewed {
            Ok(()) => self.troubled = false,
            Err(error) if !self.troubled => {
                tracing::error!(%error, "the secret stays as it was");
                self.troubled = true;
            }
            Err(_) => {}
        }
    }
}

/// A folder of its owner alone, also when it is there already.
fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o700))
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests;
