-- A stream has several recordings, one after the other: each has an id of its own. The first has the stream's, as before.

CREATE TABLE recordings_by_id (
    id          TEXT PRIMARY KEY NOT NULL,
    stream      TEXT NOT NULL REFERENCES streams (id),
    -- The stream's: what lies at a time is asked by room.
    room        TEXT NOT NULL,
    path        TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('recording', 'finalising', 'complete', 'repaired', 'failed')),
    bytes       INTEGER NOT NULL DEFAULT 0,
    duration_ms INTEGER NOT NULL DEFAULT 0,
    gaps        INTEGER NOT NULL DEFAULT 0,
    started_at  TEXT NOT NULL,
    ended_at    TEXT
) STRICT, WITHOUT ROWID;

INSERT INTO recordings_by_id
    SELECT stream, stream, room, path, recordings.state, bytes, duration_ms, gaps, recordings.started_at, recordings.ended_at
    FROM recordings JOIN streams ON streams.id = recordings.stream;
DROP TABLE recordings;
ALTER TABLE recordings_by_id RENAME TO recordings;

CREATE INDEX recordings_unfinished ON recordings (state) WHERE state IN ('recording', 'finalising');
CREATE INDEX recordings_by_stream ON recordings (stream, id);
CREATE INDEX recordings_by_time ON recordings (room, started_at);

ALTER TABLE uploads RENAME COLUMN stream TO recording;
ALTER TABLE stored_recordings RENAME COLUMN stream TO recording;
ALTER TABLE removals RENAME COLUMN stream TO recording;
