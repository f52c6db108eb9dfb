//! Asks a relay for permission to reach some addresses, and tells what it answered: for tests that have to ask from another
//! network than their own.
//!
//! `{"relay": "192.0.2.1:3478", "username": …, "credential": …, "peers": ["10.0.0.1", …]}` comes as JSON on standard input;
//! `{"relayed": "10.244.0.9:49152", "answers": {"10.0.0.1": {"permission": 403, "channel": 403}, …}}` goes to standard
//! output. 200 is a yes, 0 no answer. Credentials do not stand in arguments, which everybody can read.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use streamsession_tests::turn::{Account, Allocation, TurnError};

#[derive(Deserialize)]
struct Order {
    relay: SocketAddr,
    username: String,
    credential: String,
    peers: Vec<IpAddr>,
}

/// The code of an answer.
fn code(answer: &Result<(), TurnError>) -> u16 {
    match answer {
        Ok(()) => 200,
        Err(error) => error.code().unwrap_or(0),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let order: Order = serde_json::from_reader(std::io::stdin())?;
    let account = Account { username: order.username, credential: order.credential };
    let mut allocation = Allocation::open(order.relay, Some(&account)).await?;
    let mut answers = BTreeMap::new();
    for (number, peer) in (0x4000..).zip(order.peers) {
        let permission = code(&allocation.permit(peer).await);
        let channel = code(&allocation.bind_channel(number, SocketAddr::new(peer, 8189)).await);
        answers.insert(peer, json!({ "permission": permission, "channel": channel }));
    }
    println!("{}", json!({ "relayed": allocation.relayed(), "answers": answers }));
    Ok(())
}
