-- The store that the journal describes. A journal of an earlier version describes the store of the next start.
CREATE TABLE journal_store (
    id       INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    -- Names this registry among those that write to the store.
    owner    TEXT NOT NULL,
    -- NULL until a server with a store has started. 'managed:…' is the store on the volume of the registry.
    identity TEXT
) STRICT;

INSERT INTO journal_store (id, owner) VALUES (1, lower(hex(randomblob(16))));

-- The store that holds the entire recording, when it is not the present one and the directory has left the disk.
ALTER TABLE stored_recordings ADD COLUMN elsewhere TEXT CHECK (elsewhere IS NULL OR evicted_at IS NOT NULL);

CREATE INDEX stored_recordings_elsewhere ON stored_recordings (recording) WHERE elsewhere IS NOT NULL;

-- Recordings that have left the disk; of those the ones in another store; of those the ones on this volume.
ALTER TABLE upload_totals ADD COLUMN evicted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE upload_totals ADD COLUMN elsewhere INTEGER NOT NULL DEFAULT 0;
ALTER TABLE upload_totals ADD COLUMN elsewhere_on_volume INTEGER NOT NULL DEFAULT 0;

UPDATE upload_totals SET evicted = (SELECT count(*) FROM stored_recordings WHERE evicted_at IS NOT NULL);

CREATE TRIGGER stored_recordings_moved AFTER UPDATE OF evicted_at, elsewhere ON stored_recordings
WHEN (old.evicted_at IS NULL) <> (new.evicted_at IS NULL) OR old.elsewhere IS NOT new.elsewhere BEGIN
    UPDATE upload_totals SET
        evicted = evicted - (old.evicted_at IS NOT NULL) + (new.evicted_at IS NOT NULL),
        elsewhere = elsewhere - (old.elsewhere IS NOT NULL) + (new.elsewhere IS NOT NULL),
        elsewhere_on_volume = elsewhere_on_volume
            - coalesce(old.elsewhere LIKE 'managed:%', 0) + coalesce(new.elsewhere LIKE 'managed:%', 0)
    WHERE id = 1;
END;

CREATE TRIGGER stored_recordings_moved_deleted AFTER DELETE ON stored_recordings WHEN old.evicted_at IS NOT NULL BEGIN
    UPDATE upload_totals SET
        evicted = evicted - 1,
        elsewhere = elsewhere - (old.elsewhere IS NOT NULL),
        elsewhere_on_volume = elsewhere_on_volume - coalesce(old.elsewhere LIKE 'managed:%', 0)
    WHERE id = 1;
END;
