-- How many transactions have changed rows of bookings.
--
-- Who read a row and the count in one snapshot, and later finds the count to be the same, knows that
-- the row is: a poll needs no look at it. Only changes are counted, no new rows, and of those there
-- is only the cancel.

CREATE TABLE changed_bookings (
    n       smallint NOT NULL,
    changes bigint   NOT NULL DEFAULT 0,
    last_tx xid8,
    CONSTRAINT changed_bookings_pkey PRIMARY KEY (n)
);
COMMENT ON TABLE changed_bookings IS 'Transactions that changed bookings: the sum counts. In several rows, so that cancels do not wait for each other.';
COMMENT ON COLUMN changed_bookings.last_tx IS 'The last one counted here: it is counted once, whatever it changes.';
INSERT INTO changed_bookings (n) SELECT generate_series(0, 15);

-- Purpose: count this transaction.
-- Locks: one row of changed_bookings, always the same one for a connection, and as the last lock of
-- all, when the transaction is about to commit: who holds it waits for nobody.
CREATE FUNCTION count_changed_booking() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE changed_bookings
    SET changes = changes + 1, last_tx = pg_current_xact_id()
    WHERE n = pg_backend_pid() % 16
      AND last_tx IS DISTINCT FROM pg_current_xact_id();
    RETURN NULL;
END $$;
COMMENT ON FUNCTION count_changed_booking IS 'Keeps changed_bookings.';

CREATE CONSTRAINT TRIGGER changed_bookings_count AFTER UPDATE OR DELETE ON booking
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW
EXECUTE FUNCTION count_changed_booking();
