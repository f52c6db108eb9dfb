//! `media-server linger`: what the store's container does before it ends. It waits until the server of its pod has ended,
//! so that what a drain finalises has somewhere to go.
//!
//! Kubernetes ends all containers of a pod at once; a container's preStop hook is what may hold it back, within the pod's
//! grace period. It runs in an image that is not ours, so it is this program, copied (see [`crate::relay::install`]).

use clap::Args as ClapArgs;
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(200);
/// For one look: somebody who is there answers at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// One look may fail while the server is busy; so many in a row do not.
const GONE: u32 = 3;

/// Flags of `media-server linger`.
#[derive(Clone, Debug, ClapArgs)]
pub struct LingerArgs {
    /// Where the server listens for as long as it runs
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8081")]
    pub address: SocketAddr,
    /// Seconds after which it is not waited for any longer
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub deadline: u64,
}

/// Returns when nobody listens there any more, or at the deadline.
pub fn linger(args: &LingerArgs) -> ExitCode {
    let end = Instant::now() + Duration::from_secs(args.deadline);
    let mut missed = 0;
    while missed < GONE && Instant::now() < end {
        missed = if TcpStream::connect_timeout(&args.address, PATIENCE).is_ok() { 0 } else { missed + 1 };
        sleep(EVERY);
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread::spawn;

    fn args(address: SocketAddr, deadline: u64) -> LingerArgs {
        LingerArgs { address, deadline }
    }

    #[test]
    fn it_ends_once_nobody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = spawn(move || linger(&args(address, 60)));
        listener.accept().unwrap();
        listener.accept().unwrap();
        assert!(!waiting.is_finished(), "somebody listens still");
        drop(listener);
        waiting.join().unwrap();
    }

    #[test]
    fn it_ends_at_the_deadline_whoever_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let begin = Instant::now();
        linger(&args(listener.local_addr().unwrap(), 1));
        assert!(begin.elapsed() >= Duration::from_secs(1));
    }
}
