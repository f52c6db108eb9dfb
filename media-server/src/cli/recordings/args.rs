//! The command line of `media-server recordings`: where recordings lie, and what is to be done with them.
//!
//! A store's keys are no flags: they come from files or from the environment, as they do for the server.

use clap::{Args as ClapArgs, Subcommand, ValueHint};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::path::PathBuf;
use streamsession_api::{DurationString, KeepFree, Quantity};

/// Flags of `media-server recordings`.
#[derive(Clone, Debug, ClapArgs)]
pub struct RecordingsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: RecordingsCommand,
}

/// What to do with recordings.
#[derive(Clone, Debug, Subcommand)]
pub enum RecordingsCommand {
    /// List recordings, newest first.
    ///
    /// It reads manifests, not the database, and changes nothing: it works beside a running server and without one.
    List(ListArgs),
    /// Check every file of recordings against the manifest: there, as long, and with the same SHA-256.
    ///
    /// Prints a line for each fault, with what to do, and then ends with 1. Recordings that are not finished have no
    /// manifest and are passed over.
    Verify(VerifyArgs),
    /// Write a recording as one MP4 that plays everywhere, made from its segments.
    ///
    /// All that goes into it is checked against the manifest. The file appears under its name only when it is whole; from
    /// a store it needs the room twice while it is made. Where a camera changed codec or size, a further file begins:
    /// NAME-2.mp4 and so on.
    Export(ExportArgs),
    /// Delete recordings, oldest first, by age, by the bytes that all take, and by the space that is to stay free.
    ///
    /// The rules are those of spec.recording.retention; with --session and without rules here, they are taken from there. A
    /// recording goes as soon as one of the rules says so, or all of them with --all. What is not finished stays; so does
    /// what is held by a file called `hold` beside its manifest, or is not uploaded yet where there is a store. In a store
    /// the manifest goes first, in a folder the whole goes at once.
    Prune(PruneArgs),
    /// Rebuild the server's registry of recordings from the disk and the object store.
    ///
    /// A server whose registry is new does this by itself. Recordings that the registry knows are left alone. One without a
    /// manifest gets its entry, and the next start of the server finishes it.
    Reindex(ReindexArgs),
    /// Make this server the owner of its prefix in the store, in place of another server.
    ///
    /// A server refuses to upload to a prefix that another one owns, and names that one in its status. It notices the
    /// change within a minute. The other server, should it still run, refuses from then on.
    TakeOver(TakeOverArgs),
}

/// Where recordings lie.
#[derive(Clone, Debug, Default, ClapArgs)]
#[command(next_help_heading = "Where")]
pub struct PlaceArgs {
    /// The server's --data-dir, whose recordings are in it [default: ./streamsession-data]
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub data_dir: Option<PathBuf>,
    /// The folder of the recordings itself, one folder each
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath, conflicts_with = "data_dir")]
    pub dir: Option<PathBuf>,
    /// The server's StreamSession document (YAML): it names the store, if there is one
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub session: Option<PathBuf>,
    /// URL of a store that speaks S3, with https:// or http:// in front
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, requires = "bucket", conflicts_with = "session", value_parser = endpoint)]
    pub endpoint: Option<String>,
    /// The store's bucket
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    pub bucket: Option<String>,
    /// The store's region
    #[arg(long, value_name = "NAME", default_value = "us-east-1", requires = "endpoint")]
    pub region: String,
    /// What the keys of all recordings begin with, such as NAMESPACE/NAME/
    #[arg(long, value_name = "PREFIX", default_value = "", requires = "endpoint")]
    pub prefix: String,
    /// Whether the bucket stands in the path (most stores) or in the host name (AWS)
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", requires = "endpoint", action = clap::ArgAction::Set)]
    pub path_style: bool,
    /// Directory with the store's keys (files called accessKeyId, secretAccessKey and, if it has one, sessionToken)
    /// [default: AWS_ACCESS_KEY_ID and the like, or AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE]
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub store_credentials_dir: Option<PathBuf>,
    /// File with the certificates (PEM) of the authorities that are trusted for the store [default: the system's]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub store_ca_file: Option<PathBuf>,
    /// These are the places of a pod of the operator's, in which a server may not have made the folder yet.
    #[arg(skip)]
    pub in_pod: bool,
}

/// Flags of `media-server recordings list`.
#[derive(Clone, Debug, ClapArgs)]
pub struct ListArgs {
    /// Only this room
    #[arg(long, value_name = "NAME")]
    pub room: Option<String>,
    /// Only what started then or later: 2026-10-23, 2026-10-23T09:00:00Z, or so long ago: 36h, 7d
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub since: Option<Timestamp>,
    /// Only what started before: as --since
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub until: Option<Timestamp>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Where recordings lie.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Flags of `media-server recordings verify`.
#[derive(Clone, Debug, ClapArgs)]
pub struct VerifyArgs {
    /// Which ones, by their ids or the beginnings of these [default: all that are finished]
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Where recordings lie.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Flags of `media-server recordings export`.
#[derive(Clone, Debug, ClapArgs)]
pub struct ExportArgs {
    /// Which one, by its id or the beginning of it
    #[arg(value_name = "ID")]
    pub id: String,
    /// The file to write; - is stdout. One that is there is replaced
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: PathBuf,
    /// Only the first, the second … of a recording whose codec or size changed
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub part: Option<u32>,
    /// Where recordings lie.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Flags of `media-server recordings reindex`.
#[derive(Clone, Debug, ClapArgs)]
pub struct ReindexArgs {
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Where recordings lie.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Flags of `media-server recordings prune`.
#[derive(Clone, Debug, ClapArgs)]
pub struct PruneArgs {
    /// Delete what ended so long ago: 30d, 36h
    #[arg(long, value_name = "DURATION")]
    pub max_age: Option<DurationString>,
    /// Delete the oldest while all together take more than this: 500Gi
    #[arg(long, value_name = "BYTES")]
    pub max_bytes: Option<Quantity>,
    /// Delete the oldest while less of the folder's disk is free: 10%, 50Gi
    #[arg(long, value_name = "SHARE|BYTES")]
    pub keep_free: Option<KeepFree>,
    /// Delete every recording that is finished and not held, whatever its age, damaged ones and ones that are not uploaded
    /// too; with --orphans --orphan-age 0s also what is not finished
    #[arg(long, conflicts_with_all = ["max_age", "max_bytes", "keep_free"])]
    pub all: bool,
    /// Leave this one alone, by its id or the beginning of it; repeatable. A file called hold beside the manifest does so
    /// for good
    #[arg(long, value_name = "ID")]
    pub hold: Vec<String>,
    /// Delete besides what never got a manifest and cannot be finished any more, and what uploads and writing left
    /// half done
    #[arg(long)]
    pub orphans: bool,
    /// How long nothing may have changed before it counts as left behind; 0s: at once
    #[arg(long, value_name = "DURATION", default_value = "24h", requires = "orphans")]
    pub orphan_age: DurationString,
    /// Delete objects on behalf of this owner of the store's prefix [default: the server of --data-dir]
    #[arg(long, value_name = "ID")]
    pub owner: Option<String>,
    /// Only show what would go
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask; needed where there is no terminal
    #[arg(long, short)]
    pub yes: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Write besides what became of it, in at most 3 KiB of JSON, also when it fails: a container's termination message
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub report: Option<PathBuf>,
    /// Where recordings lie.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Flags of `media-server recordings take-over`.
#[derive(Clone, Debug, ClapArgs)]
pub struct TakeOverArgs {
    /// The id of the server that owns the prefix now, as the server's status names it
    #[arg(value_name = "OWNER")]
    pub owner: String,
    /// Where recordings lie.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// A time, a day (its begin in UTC), or how long ago.
fn when(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    if let Ok(day) = text.parse::<Date>() {
        return day.to_zoned(TimeZone::UTC).map(|at| at.timestamp()).map_err(|error| error.to_string());
    }
    let ago = text.parse::<DurationString>().ok().and_then(|ago| SignedDuration::try_from(ago.as_duration()).ok());
    ago.and_then(|ago| Timestamp::now().checked_sub(ago).ok()).ok_or_else(|| {
        "write a day (2026-10-23, in UTC), a time (2026-10-23T09:00:00Z) or how long ago (36h, 7d)".into()
    })
}

fn endpoint(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err("write a URL such as https://s3.example.com or http://127.0.0.1:9000".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use clap::Parser as _;

    fn parse(line: &str) -> Result<RecordingsCommand, String> {
        let words = ["media-server", "recordings"].into_iter().chain(line.split_whitespace());
        match Args::try_parse_from(words).map_err(|error| error.to_string())?.command {
            Some(Command::Recordings(args)) => Ok(args.command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn times_are_days_times_or_ages() {
        assert_eq!(when("2026-10-23").unwrap(), "2026-10-23T00:00:00Z".parse().unwrap());
        assert_eq!(when("2026-10-23T09:00:00+02:00").unwrap(), "2026-10-23T07:00:00Z".parse().unwrap());
        let ago = Timestamp::now().duration_since(when("36h").unwrap()).as_hours();
        assert!((35..=36).contains(&ago), "{ago}");
        for text in ["", "yesterday", "2026-13-01", "10"] {
            assert!(when(text).unwrap_err().contains("2026-10-23"), "{text}");
        }
    }

    #[test]
    fn a_store_needs_both_its_names_and_excludes_a_session() {
        let RecordingsCommand::List(args) = parse("list --endpoint http://s3:9000/ --bucket b").unwrap() else {
            panic!()
        };
        assert_eq!(args.place.endpoint.as_deref(), Some("http://s3:9000"));
        assert!(args.place.path_style && args.place.region == "us-east-1");
        let aws = parse("list --endpoint https://s3.amazonaws.com --bucket b --path-style=false").unwrap();
        assert!(matches!(aws, RecordingsCommand::List(args) if !args.place.path_style));
        for line in [
            "list --endpoint http://s3:9000",
            "list --bucket b",
            "list --endpoint http://s3 --bucket b --session s.yaml",
            "list --endpoint s3.example.com --bucket b",
            "list --prefix a/ --dir /tmp",
            "list --dir a --data-dir b",
            "export",
            "export --out x.mp4",
            "prune --orphan-age 1h",
            "prune --keep-free 10",
            "prune --all --max-age 1h",
            "prune --all --max-bytes 1G",
            "prune --all --keep-free 10%",
        ] {
            parse(line).unwrap_err();
        }
    }
}
