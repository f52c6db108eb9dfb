//! What the running server is to take over: limits and other live fields, the addresses and relays to tell peers.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use streamsession_api::Endpoints;

use super::{SessionPush, scene::Scene};

/// The push, if the server has not taken all of it over yet.
pub(crate) fn push(scene: &Scene<'_>, endpoints: &Endpoints) -> Option<SessionPush> {
    let report = scene.report()?;
    scene.living_pod()?;
    let own = scene.pod()?.status.as_ref().and_then(|status| status.pod_ip.as_ref()?.parse::<IpAddr>().ok());
    let others = |addresses: &[String]| -> BTreeSet<SocketAddr> {
        let parsed = addresses.iter().filter_map(|text| text.parse().ok());
        // The server offers its own address in any case.
        parsed.filter(|address: &SocketAddr| Some(address.ip()) != own).collect()
    };
    let urls = |urls: &[String]| -> BTreeSet<String> { urls.iter().cloned().collect() };
    let taken = report.generation == scene.generation()
        && others(&report.announced) == others(&endpoints.announced)
        && urls(&report.turn_urls) == urls(&endpoints.turn);
    (!taken).then(|| SessionPush {
        generation: scene.generation(),
        spec: scene.spec.clone(),
        announced: endpoints.announced.clone(),
        turn_urls: endpoints.turn.clone(),
        drain: false,
    })
}
