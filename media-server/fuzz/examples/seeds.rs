//! Writes the inputs to begin with: `seeds FOLDER` makes FOLDER/TARGET/N.

use bodies::{Seeds, recorder, sfu};

const ALL: [(&str, Seeds); 12] = [
    ("stun", sfu::stun_seeds),
    ("sdp_offer", sfu::sdp_offer_seeds),
    ("ice_fragment", sfu::ice_fragment_seeds),
    ("rtp", sfu::rtp_seeds),
    ("rtcp", sfu::rtcp_seeds),
    ("shard", sfu::shard_seeds),
    ("h264", recorder::codec_seeds),
    ("vp8", recorder::codec_seeds),
    ("vp9", recorder::codec_seeds),
    ("av1", recorder::codec_seeds),
    ("opus", recorder::codec_seeds),
    ("repair", recorder::repair_seeds),
];

fn main() -> std::io::Result<()> {
    let folder = std::path::PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "corpus".to_owned()));
    for (target, seeds) in ALL {
        std::fs::create_dir_all(folder.join(target))?;
        for (n, seed) in seeds().iter().enumerate() {
            std::fs::write(folder.join(target).join(format!("seed-{n}")), seed)?;
        }
    }
    Ok(())
}
