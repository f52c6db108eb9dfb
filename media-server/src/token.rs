//! `media-server token`: a bearer token for a camera, a viewer or an operator, signed with the server's secret.
//!
//! The secret is looked for where the server itself looks: the file of `--jwt-secret-file`, `MEDIA_JWT_SECRET`, and the
//! file that the server made in its data folder. It is never an argument and never printed.

use crate::args::TokenArgs;
use crate::auth::key::{self, MIN_SECRET};
use crate::auth::{Grant, Scope, Secret, mint};
use crate::config::{ConfigError, DEFAULT_DATA_DIR, Environment, SessionDocument};
use crate::control::{RoomName, RoomNameError};
use jiff::Timestamp;
use std::io;
use std::path::{Path, PathBuf};

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenCommandError {
    /// A scope that is about rooms, and no room.
    #[error("no room is named: give --room NAME, or --room '*' for every room")]
    NoRoom,
    /// No room can have this name.
    #[error("--room {name:?}: {error}, or '*' for every room")]
    Room {
        /// As it was given.
        name: String,
        /// What is wrong.
        error: RoomNameError,
    },
    /// Somebody must be named by it.
    #[error("--subject is empty: name who brings the token, or leave it out for a random name")]
    Subject,
    /// It would be good for no time.
    #[error("--lifetime is {0}: write at least 1s, such as 1h, 24h or 30d")]
    Lifetime(String),
    /// The session cannot be read.
    #[error(transparent)]
    Session(#[from] ConfigError),
    /// The server has made no secret here.
    #[error(
        "there is no secret in {}: name the data folder of the server by --data-dir, or the file by --jwt-secret-file. \
         The server makes one at its first start with a session (--session) whose auth has mode JWT and no keys",
        .0.display()
    )]
    NoSecret(PathBuf),
    /// The file cannot be read.
    #[error("cannot read the secret in {}: {source}; run this as the server's user, or as root", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not one that the server takes.
    #[error("the secret of {place} has {length} bytes, and the server takes none below {MIN_SECRET}")]
    Short {
        /// File or variable.
        place: String,
        /// How many there are.
        length: usize,
    },
    /// The library refused.
    #[error("the token cannot be signed: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// A token, and what to tell of it.
#[derive(Debug)]
pub struct Minted {
    /// For stdout: the token.
    pub token: String,
    /// For stderr: what it allows, to whom, and until when.
    pub about: String,
}

/// Makes a token as of `now`.
pub fn make(args: &TokenArgs, environment: &Environment, now: Timestamp) -> Result<Minted, TokenCommandError> {
    let grant = grant(args)?;
    let secret = secret(args, environment)?;
    let token = mint(&secret, &grant, now.as_second())?;
    let scopes: Vec<_> = grant.scopes.iter().map(|scope| scope.name()).collect();
    let rooms = match grant.rooms.as_slice() {
        [] => "every room".to_owned(),
        rooms if rooms.iter().any(|room| room == "*") => "every room".to_owned(),
        rooms => format!("room {}", rooms.join(", ")),
    };
    let until = Timestamp::from_second(now.as_second().saturating_add_unsigned(grant.lifetime.as_secs()));
    let until = until.unwrap_or(Timestamp::MAX);
    let about = format!("{} in {rooms}, as {}, until {until}", scopes.join(", "), grant.subject);
    Ok(Minted { token, about })
}

fn grant(args: &TokenArgs) -> Result<Grant, TokenCommandError> {
    for name in args.room.iter().filter(|name| *name != "*") {
        RoomName::parse(name).map_err(|error| TokenCommandError::Room { name: name.clone(), error })?;
    }
    if args.room.is_empty() && !args.scope.contains(&Scope::Admin) {
        return Err(TokenCommandError::NoRoom);
    }
    let subject = match &args.subject {
        Some(subject) if subject.is_empty() => return Err(TokenCommandError::Subject),
        Some(subject) => subject.clone(),
        None => format!("token:{:016x}", rand::random::<u64>()),
    };
    let lifetime = args.lifetime.as_duration();
    if lifetime.as_secs() == 0 {
        return Err(TokenCommandError::Lifetime(args.lifetime.to_string()));
    }
    let session = args.files.session.as_deref().map(SessionDocument::read).transpose()?;
    let auth = session.as_ref().map(|session| &session.spec().auth);
    Ok(Grant {
        subject,
        account: args.account.clone().filter(|account| !account.is_empty()),
        scopes: args.scope.clone(),
        rooms: args.room.clone(),
        issuer: auth.and_then(|auth| auth.issuer.clone()),
        audience: auth.and_then(|auth| auth.audience.clone()),
        lifetime,
    })
}

fn secret(args: &TokenArgs, environment: &Environment) -> Result<Secret, TokenCommandError> {
    let (secret, place) = match (&args.jwt_secret_file, &environment.jwt_secret) {
        (Some(path), _) => (read(path)?, path.display().to_string()),
        (None, Some(secret)) => (secret.clone(), "MEDIA_JWT_SECRET".to_owned()),
        (None, None) => {
            let folder = args.files.data_dir.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR));
            let path = folder.join(key::FILE_NAME);
            (read(&path)?, path.display().to_string())
        }
    };
    match secret.expose().len() {
        MIN_SECRET.. => Ok(secret),
        length => Err(TokenCommandError::Short { place, length }),
    }
}

fn read(path: &Path) -> Result<Secret, TokenCommandError> {
    key::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => TokenCommandError::NoSecret(path.to_owned()),
        _ => TokenCommandError::Read { path: path.to_owned(), source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use crate::auth::{Action, AuthMode, Authorizer};
    use axum::http::header::AUTHORIZATION;
    use axum::http::{HeaderMap, HeaderValue};
    use clap::Parser as _;

    fn args(line: &[&str]) -> TokenArgs {
        let line = ["media-server", "token"].into_iter().chain(line.iter().copied());
        match Args::try_parse_from(line).unwrap().command {
            Some(Command::Token(args)) => *args,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(line: &[&str]) -> String {
        make(&args(line), &Environment::default(), Timestamp::now()).unwrap_err().to_string()
    }

    fn allows(secret: &Secret, token: &str, action: Action<'_>) -> bool {
        let mode =
            AuthMode::Jwt { secret: secret.clone(), issuer: Some("https://i".into()), audience: Some("cams".into()) };
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
        Authorizer::new(&mode).decide(&headers, action).is_ok()
    }

    #[test]
    fn a_token_opens_what_it_was_made_for_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_str().unwrap();
        let secret = key::read_or_make(&folder.path().join(key::FILE_NAME)).unwrap();
        let session = folder.path().join("session.yaml");
        let text = "apiVersion: media.streamsession.io/v1alpha1\nkind: StreamSession\nmetadata: {name: door}\n\
                    spec: {auth: {issuer: 'https://i', audience: cams}}\n";
        std::fs::write(&session, text).unwrap();
        let mint = |line: &[&str]| {
            let common = ["--data-dir", data, "--session", session.to_str().unwrap()];
            let line: Vec<_> = line.iter().copied().chain(common).collect();
            make(&args(&line), &Environment::default(), Timestamp::now()).unwrap()
        };
        let camera = mint(&["--scope", "publish", "--room", "door", "--subject", "porch", "--lifetime", "1h"]);
        assert!(allows(&secret, &camera.token, Action::Publish("door")));
        for other in [Action::Publish("garden"), Action::Subscribe("door"), Action::Admin] {
            assert!(!allows(&secret, &camera.token, other), "{other:?}");
        }
        assert!(camera.about.contains("publish in room door, as porch, until "), "{}", camera.about);
        let both = mint(&["--scope", "publish,subscribe", "--room", "door", "--room", "garden"]);
        assert!(allows(&secret, &both.token, Action::Subscribe("garden")));
        assert!(!allows(&secret, &both.token, Action::Subscribe("attic")));
        assert!(allows(&secret, &mint(&["--scope", "subscribe", "--room", "*"]).token, Action::Subscribe("attic")));
        assert!(allows(&secret, &mint(&["--scope", "admin"]).token, Action::Admin));
        let printed = format!("{camera:?}");
        assert!(!printed.contains(std::str::from_utf8(secret.expose()).unwrap()));
    }

    #[test]
    fn a_token_ends_with_its_lifetime() {
        let environment = Environment { jwt_secret: Some(Secret::new("x".repeat(32))), ..Environment::default() };
        let args = args(&["--scope", "publish", "--room", "a", "--lifetime", "10m"]);
        let minted = |ago: i64| {
            let now = Timestamp::from_second(Timestamp::now().as_second() - ago).unwrap();
            make(&args, &environment, now).unwrap().token
        };
        let good = |token: &str| {
            let verifier = crate::auth::Verifier::new(environment.jwt_secret.as_ref().unwrap(), None, None);
            verifier.verify(token).is_ok()
        };
        assert!(good(&minted(9 * 60)) && !good(&minted(11 * 60)));
    }

    #[test]
    fn each_wrong_use_names_the_remedy() {
        for (line, parts) in [
            (&["--scope", "publish"][..], &["--room"][..]),
            (&["--scope", "publish", "--room", "a b"], &["a b", "letters"]),
            (&["--scope", "publish", "--room", "a", "--subject", ""], &["--subject"]),
            (&["--scope", "publish", "--room", "a", "--lifetime", "500ms"], &["--lifetime", "24h"]),
            (&["--scope", "admin", "--data-dir", "/nowhere"], &["/nowhere/jwt.secret", "--data-dir", "--session"]),
            (&["--scope", "admin", "--jwt-secret-file", "/"], &["/", "directory"]),
        ] {
            let text = refusal(line);
            assert!(parts.iter().all(|part| text.contains(part)), "{line:?}: {text}");
        }
        assert!(Args::try_parse_from(["media-server", "token", "--room", "a"]).is_err(), "a scope is needed");
        assert!(Args::try_parse_from(["media-server", "token", "--scope", "fly"]).is_err());
        assert!(Args::try_parse_from(["media-server", "token", "--scope", "admin", "--lifetime", "soon"]).is_err());
        assert!(Args::try_parse_from(["media-server", "token", "--scope", "admin", "--secret", "x"]).is_err());
    }
}
