-- The queue of uploads is read by index, and its totals are kept: neither costs more when more files wait.

-- 1 once no file of a lower rank of the same recording waits.
ALTER TABLE uploads ADD COLUMN ready INTEGER NOT NULL DEFAULT 1 CHECK (ready IN (0, 1));

UPDATE uploads SET ready = 0
WHERE rank > 0 AND state <> 'verified' AND EXISTS (
    SELECT 1 FROM uploads AS lower
    WHERE lower.stream = uploads.stream AND lower.rank < uploads.rank AND lower.state <> 'verified');

-- Never failed: in the order in which they are tried.
CREATE INDEX uploads_fresh ON uploads (ready, queued_at, rank, file) WHERE state <> 'verified' AND attempts = 0;
-- Failed: by the time of their next attempt.
CREATE INDEX uploads_retried ON uploads (ready, next_at) WHERE state <> 'verified' AND attempts > 0;
CREATE INDEX uploads_oldest ON uploads (queued_at) WHERE state <> 'verified';
CREATE INDEX removals_by_next_at ON removals (next_at);

DROP INDEX stored_recordings_local;
CREATE INDEX stored_recordings_evictable ON stored_recordings (stream)
    WHERE evicted_at IS NULL AND committed_at IS NOT NULL;

-- Totals of all that waits, in one row. Triggers keep it, so that other processes that delete recordings keep it too.
CREATE TABLE upload_totals (
    id         INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    files      INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    recordings INTEGER NOT NULL,
    removals   INTEGER NOT NULL
) STRICT;

INSERT INTO upload_totals (id, files, bytes, recordings, removals)
SELECT 1, count(*), coalesce(sum(bytes), 0),
    (SELECT count(*) FROM stored_recordings WHERE committed_at IS NULL),
    (SELECT count(*) FROM removals)
FROM uploads WHERE state <> 'verified';

DROP INDEX stored_recordings_uncommitted;

CREATE TRIGGER uploads_inserted AFTER INSERT ON uploads WHEN new.state <> 'verified' BEGIN
    UPDATE upload_totals SET files = files + 1, bytes = bytes + new.bytes WHERE id = 1;
END;

CREATE TRIGGER uploads_deleted AFTER DELETE ON uploads WHEN old.state <> 'verified' BEGIN
    UPDATE upload_totals SET files = files - 1, bytes = bytes - old.bytes WHERE id = 1;
END;

CREATE TRIGGER uploads_updated AFTER UPDATE OF state, bytes ON uploads
WHEN (old.state <> 'verified') <> (new.state <> 'verified') OR old.bytes <> new.bytes BEGIN
    UPDATE upload_totals SET
        files = files - (old.state <> 'verified') + (new.state <> 'verified'),
        bytes = bytes - old.bytes * (old.state <> 'verified') + new.bytes * (new.state <> 'verified')
    WHERE id = 1;
END;

CREATE TRIGGER stored_recordings_inserted AFTER INSERT ON stored_recordings WHEN new.committed_at IS NULL BEGIN
    UPDATE upload_totals SET recordings = recordings + 1 WHERE id = 1;
END;

CREATE TRIGGER stored_recordings_deleted AFTER DELETE ON stored_recordings WHEN old.committed_at IS NULL BEGIN
    UPDATE upload_totals SET recordings = recordings - 1 WHERE id = 1;
END;

CREATE TRIGGER stored_recordings_updated AFTER UPDATE OF committed_at ON stored_recordings
WHEN (old.committed_at IS NULL) <> (new.committed_at IS NULL) BEGIN
    UPDATE upload_totals SET recordings = recordings - (old.committed_at IS NULL) + (new.committed_at IS NULL)
    WHERE id = 1;
END;

CREATE TRIGGER removals_inserted AFTER INSERT ON removals BEGIN
    UPDATE upload_totals SET removals = removals + 1 WHERE id = 1;
END;

CREATE TRIGGER removals_deleted AFTER DELETE ON removals BEGIN
    UPDATE upload_totals SET removals = removals - 1 WHERE id = 1;
END;
