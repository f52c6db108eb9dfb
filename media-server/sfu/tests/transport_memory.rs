//! What a connected transport keeps: a viewer may cost at most 100 KB in all, and most of it is not meant for this.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

use allocation_counter::{measure, opt_out};
use dimpl::{Config, Dtls, DtlsCertificate, Output};
use rtc_stun::attributes::{ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, Message, TransactionId};
use sfu::parameters::{DtlsRole, Fingerprint, IceCredentials, TransportParameters};
use sfu::transport::{Identity, StunRequest, Transport, TransportOutput};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// Bytes that a connected transport may keep.
const LIMIT: u64 = 40_000;

fn parameters(certificate: &DtlsCertificate) -> TransportParameters {
    let credentials = |name: &str| IceCredentials { ufrag: name.to_owned(), pwd: format!("password-of-{name}") };
    let fingerprint = Fingerprint::Sha256(certificate.fingerprint().try_into().unwrap());
    TransportParameters {
        local: credentials("Alocal"),
        remote: credentials("remote"),
        fingerprint,
        dtls_role: DtlsRole::Server,
    }
}

fn check() -> Vec<u8> {
    let crypto = rtc_stun::crypto::default_provider().unwrap();
    let username = b"Alocal:remote".to_vec();
    let integrity =
        MessageIntegrity::new_short_term_integrity_with_provider("password-of-Alocal".to_owned(), crypto.crypto());
    let mut message = Message::new();
    message
        .build(&[
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId::new()),
            Box::new(RawAttribute { typ: ATTR_USERNAME, length: 13, value: username }),
            Box::new(RawAttribute { typ: ATTR_USE_CANDIDATE, length: 0, value: Vec::new() }),
            Box::new(integrity),
            Box::new(FINGERPRINT),
        ])
        .unwrap();
    message.raw
}

/// A transport with which a client has shaken hands; the client's own memory is not counted.
fn connected(identity: &Identity, certificate: &DtlsCertificate) -> Transport {
    let (now, from) = (Instant::now(), SocketAddr::from(([192, 0, 2, 1], 4000)));
    let mut client = None;
    let mut transport = Transport::new(now, identity, parameters(certificate));
    assert!(transport.handle_stun(now, from, &StunRequest::parse(&check()).unwrap()));
    opt_out(|| {
        let config = Arc::new(Config::builder().build().unwrap());
        let mut dtls = Dtls::new_12(config, certificate.clone(), now);
        dtls.set_active(true);
        dtls.handle_timeout(now).unwrap();
        client = Some(dtls);
    });
    loop {
        let mut datagrams = Vec::new();
        opt_out(|| {
            let mut buffer = vec![0; 4096];
            loop {
                match client.as_mut().unwrap().poll_output(&mut buffer) {
                    Output::Packet(bytes) => datagrams.push(bytes.to_vec()),
                    Output::Timeout(_) => break,
                    _ => {}
                }
            }
        });
        for bytes in &datagrams {
            transport.handle_dtls(now, from, bytes);
        }
        opt_out(|| drop(datagrams));
        while let Some(output) = transport.poll_output() {
            match output {
                TransportOutput::Datagram { bytes, .. } if bytes[0] >= 20 => {
                    opt_out(|| client.as_mut().unwrap().handle_packet(&bytes).unwrap());
                }
                TransportOutput::Closed(error) => panic!("{error}"),
                _ => {}
            }
        }
        if transport.sealer().is_some() {
            opt_out(|| drop(client));
            return transport;
        }
    }
}

#[test]
fn a_connected_transport_keeps_little_heap() {
    let identity = Identity::generate().unwrap();
    let certificate = dimpl::certificate::generate_self_signed_certificate().unwrap();
    // Once before, for what is made once.
    drop(connected(&identity, &certificate));
    let mut transport = None;
    let info = measure(|| transport = Some(connected(&identity, &certificate)));
    println!("{} bytes of heap in {} pieces", info.bytes_current, info.count_current);
    assert!(info.bytes_current > 1000 && info.bytes_current < LIMIT as i64, "{info:?}");
    drop(transport);
}

/// The whole truth: some of it is kept by C code, which the counter does not see.
#[cfg(target_os = "linux")]
#[test]
fn a_connected_transport_takes_little_memory() {
    fn resident() -> u64 {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }
    const MANY: u64 = 300;
    let identity = Identity::generate().unwrap();
    let certificate = dimpl::certificate::generate_self_signed_certificate().unwrap();
    let make = || (0..MANY).map(|_| connected(&identity, &certificate)).collect::<Vec<_>>();
    let first = make();
    let before = resident();
    let second = make();
    let each = resident().saturating_sub(before) / MANY;
    println!("{each} bytes of memory each");
    assert!(each < LIMIT, "{each} bytes each");
    drop((first, second));
}
