//! SDP offers, answers and ICE fragments: parsed, checked, answered.
//!
//! Stub: being written. The signatures below are the contract.

use crate::parameters::{IceCredentials, LocalDescription, PublisherTracks, SubscriberTracks};
use crate::parameters::{Fingerprint, MediaKind};

/// Why an offer or a fragment was not accepted.
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct SdpError;

/// An offer that was parsed and found to be one this server can answer.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Credentials of the peer.
    pub ice: IceCredentials,
    /// Certificate of the peer.
    pub fingerprint: Fingerprint,
}

impl Offer {
    /// Parses and checks `text`.
    pub fn parse(_text: &str) -> Result<Offer, SdpError> {
        Err(SdpError)
    }

    /// The kinds of media in the offer, in order.
    pub fn kinds(&self) -> Vec<MediaKind> {
        Vec::new()
    }

    /// Answers a publisher (WHIP): recvonly. `max_bitrate` in bits per second goes into `b=`.
    pub fn answer_publisher(
        &self,
        _local: &LocalDescription,
        _max_bitrate: Option<u64>,
    ) -> Result<(String, PublisherTracks), SdpError> {
        Err(SdpError)
    }

    /// Answers a subscriber (WHEP): sendonly, with codecs of `source` that the offer takes too.
    /// `ssrcs` are four random numbers to use: video, video RTX, audio, spare.
    pub fn answer_subscriber(
        &self,
        _local: &LocalDescription,
        _source: &PublisherTracks,
        _ssrcs: [u32; 4],
    ) -> Result<(String, SubscriberTracks), SdpError> {
        Err(SdpError)
    }
}

/// An `application/trickle-ice-sdpfrag` body (RFC 8840).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceFragment {
    /// Credentials in it, when it has them. Other credentials than the session's mean a restart.
    pub ice: Option<IceCredentials>,
    /// Its `a=candidate` lines, not judged: this server is ICE-lite and needs none.
    pub candidates: usize,
    /// `a=end-of-candidates` was there.
    pub end_of_candidates: bool,
}

impl IceFragment {
    /// Parses and checks `text`.
    pub fn parse(_text: &str) -> Result<IceFragment, SdpError> {
        Err(SdpError)
    }

    /// The fragment that answers an ICE restart: our new credentials and all candidates.
    pub fn answer_restart(_local: &LocalDescription) -> String {
        String::new()
    }
}
