//! The dependencies of the media server: not the WebRTC stack of the headless client.

use std::process::Command;

/// Packages of the client's stack.
const CLIENT_STACK: [&str; 5] = ["webrtc", "rtc", "rtc-dtls", "rtc-ice", "media-client"];

#[test]
fn server_does_not_link_the_client_stack() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-p", "media-server", "-e", "normal", "--prefix", "none"])
        .args(["--format", "{p}"])
        // Unified features would show the dependencies of other packages, too.
        .env_remove("CARGO_RESOLVER_FEATURE_UNIFICATION")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).unwrap();
    let packages: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(packages.contains(&"sfu") && packages.contains(&"ingest"), "{packages:?}");
    let linked: Vec<&&str> = packages.iter().filter(|package| CLIENT_STACK.contains(package)).collect();
    assert!(linked.is_empty(), "media-server links {linked:?}");
}
