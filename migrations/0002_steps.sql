-- The steps of the protocol that PostgreSQL takes, one function per step.
--
-- Each is called as one autocommitted statement, READ COMMITTED: every statement inside a function
-- sees what was committed before that statement began, so a lock taken by the first statement
-- makes the ones after it free of races.
--
-- Lock order, everywhere: release or parked row, unclosed epoch rows of the partition by number,
-- patients by id, booking rows, slots by id. As every step that moves quota first locks *all* unclosed epochs of its
-- partition, at most one of them runs per partition; only a cancel or a change of
-- a release meets them, at the slots alone.
--
-- Raised conditions (pool.rs maps them): SR001 contended, SR002 wave_not_distinct,
-- SR003 sold_missing, SR004 sold_below_consumed, SR005 sold_above_granted,
-- SR006 epoch_not_sealed, SR007 allotment_unknown.

CREATE FUNCTION unix_ms(at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN floor(extract(epoch FROM at) * 1000)::bigint;
COMMENT ON FUNCTION unix_ms IS 'Milliseconds since 1970, rounded down.';

CREATE FUNCTION from_unix_ms(ms bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN to_timestamp(ms::double precision / 1000);
COMMENT ON FUNCTION from_unix_ms IS 'The instant so many milliseconds after 1970.';

-- Purpose: make every step of a partition wait for the one before.
-- Post:    all unclosed epochs of the partition, and the named ones, are locked until the end.
-- A named closed epoch is locked too, so that its state cannot be read while it is being closed.
CREATE FUNCTION lock_epochs(p_partition smallint, p_es bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM epoch
    WHERE partition = p_partition
      -- The array form keeps this an index scan however many closed epochs there are.
      AND e = ANY (p_es || ARRAY(
          SELECT u.e FROM epoch u WHERE u.partition = p_partition AND u.state <> 'closed'))
    ORDER BY e
    FOR UPDATE;
END $$;
COMMENT ON FUNCTION lock_epochs IS 'First statement of every step that moves quota.';

-- Purpose: keep two writers of several slots from waiting for each other.
-- Post:    these slots are locked until the end, taken in the order of their ids.
CREATE FUNCTION lock_slots(p_slots bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM slot WHERE id = ANY (p_slots) ORDER BY id FOR NO KEY UPDATE;
END $$;
COMMENT ON FUNCTION lock_slots IS 'Locks slots in one order before they are changed together.';

-- Purpose: grant whatever is free in a partition to its open epoch (the common part of R2 and R4).
-- Pre:     the epochs are locked and p_e is open.
-- Post:    escrowed + free per slot, granted + free per allotment. Returns the allotments changed.
-- The slots are locked in the order of their ids, so that two writers of several never wait for
-- each other. The compare-and-set is needed all the same: whoever waited for a lock reads the new
-- free places, but UPDATE first tries the row of its snapshot, and the CHECK would be judged on
-- new places added to old counters. A slot that changed so is left to the next top-up.
CREATE FUNCTION grant_free(p_partition smallint, p_e bigint)
RETURNS TABLE (slot_id bigint, granted integer, release_id bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH offer AS MATERIALIZED (
        SELECT s.id, s.version, least(s.capacity, s.target) - s.booked - s.escrowed AS free
        FROM slot s
        JOIN session t ON t.id = s.session_id
        WHERE s.partition = p_partition
          AND s.target > 0 -- slot_on_offer_idx
          AND s.release_id IS NOT NULL
          AND least(s.capacity, s.target) > s.booked + s.escrowed
          AND t.withdrawn_at IS NULL
        ORDER BY s.id
        FOR NO KEY UPDATE OF s
    ), taken AS (
        UPDATE slot s
        SET escrowed = s.escrowed + offer.free,
            version = s.version + 1
        FROM offer
        WHERE s.id = offer.id
          AND s.version = offer.version
        RETURNING s.id, offer.free, s.release_id
    ), allotted AS (
        INSERT INTO epoch_slot AS a (partition, e, slot_id, granted)
        SELECT p_partition, p_e, taken.id, taken.free
        FROM taken
        ON CONFLICT (partition, e, slot_id) DO UPDATE
        SET granted = a.granted + excluded.granted
        RETURNING a.slot_id, a.granted
    )
    SELECT allotted.slot_id, allotted.granted, taken.release_id
    FROM allotted
    JOIN taken ON taken.id = allotted.slot_id;
END $$;
COMMENT ON FUNCTION grant_free IS 'Common part of open_epoch and top_up.';

-- R2. Purpose: seal the current epoch and open the next with all that is free.
-- Pre:  the latest epoch of the partition is still p_current (0: there is none).
-- Post: p_current is sealed if it was open; the next is open with this term and nonce.
-- Returns the new number, or NULL if somebody else was first. Repeated with its own nonce it
-- returns what it opened before, as long as that is open.
-- Locks: epochs; slots.
CREATE FUNCTION open_epoch(
    p_partition smallint, p_current bigint, p_run_id text, p_replid text, p_nonce text)
RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    latest epoch%ROWTYPE;
BEGIN
    PERFORM lock_epochs(p_partition, ARRAY[p_current]);
    SELECT * INTO latest
    FROM epoch
    WHERE partition = p_partition
    ORDER BY e DESC
    LIMIT 1;
    IF latest.e = p_current + 1 AND latest.state = 'open'
       AND latest.nonce = p_nonce AND latest.run_id = p_run_id AND latest.replid = p_replid THEN
        RETURN latest.e;
    END IF;
    IF coalesce(latest.e, 0) <> p_current THEN
        RETURN NULL;
    END IF;
    UPDATE epoch
    SET state = 'sealed', sealed_at = clock_timestamp()
    WHERE partition = p_partition AND e = p_current AND state = 'open';
    INSERT INTO epoch (partition, e, run_id, replid, nonce)
    VALUES (p_partition, p_current + 1, p_run_id, p_replid, p_nonce)
    ON CONFLICT (partition, e) DO NOTHING;
    IF NOT FOUND THEN -- the race for the first epoch: there was no row to lock
        RETURN NULL;
    END IF;
    PERFORM grant_free(p_partition, p_current + 1);
    RETURN p_current + 1;
END $$;
COMMENT ON FUNCTION open_epoch IS 'R2: seals the current epoch and opens the next.';

-- R4. Purpose: grant what became free, whatever freed it.
-- Pre:  p_e is open; otherwise nothing happens and nothing is returned.
-- Post: nothing is free in the partition. Returns the cumulative grants that grew.
-- Locks: epochs; slots.
CREATE FUNCTION top_up(p_partition smallint, p_e bigint)
RETURNS TABLE (slot_id bigint, granted integer, release_id bigint)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_epochs(p_partition, ARRAY[p_e]);
    IF EXISTS (SELECT FROM epoch WHERE partition = p_partition AND e = p_e AND state = 'open') THEN
        RETURN QUERY SELECT * FROM grant_free(p_partition, p_e);
    END IF;
END $$;
COMMENT ON FUNCTION top_up IS 'R4: grants what is free to the open epoch.';

-- R6. Purpose: end an epoch on purpose, with what its true ledger sold.
-- Pre:  p_e is open; p_sold holds every slot it was granted any of; consumed <= sold <= granted.
-- Post: escrowed - (granted - sold), granted = sold, sealed, frozen.
-- Returns true if it is frozen or closed, now or before; false if it was sealed another way, and
-- then only its drained queue tells what it sold.
-- Locks: epochs; slots.
CREATE FUNCTION freeze_epoch(p_partition smallint, p_e bigint, p_slots bigint[], p_sold integer[])
RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    was epoch%ROWTYPE;
    worst text;
BEGIN
    PERFORM lock_epochs(p_partition, ARRAY[p_e]);
    SELECT * INTO was FROM epoch WHERE partition = p_partition AND e = p_e;
    IF was.state IS DISTINCT FROM 'open' THEN
        RETURN coalesce(was.frozen OR was.state = 'closed', false);
    END IF;
    SELECT min(CASE
        WHEN a.slot_id IS NULL AND t.sold > 0 THEN 'SR007'
        WHEN a.slot_id IS NOT NULL AND t.sold IS NULL AND a.granted > 0 THEN 'SR003'
        WHEN t.sold < a.consumed THEN 'SR004'
        WHEN t.sold > a.granted THEN 'SR005' END)
    INTO worst
    FROM (SELECT * FROM epoch_slot WHERE partition = p_partition AND e = p_e) a
    FULL JOIN unnest(p_slots, p_sold) AS t (slot_id, sold) ON t.slot_id = a.slot_id;
    IF worst IS NOT NULL THEN
        RAISE EXCEPTION 'epoch % of partition % does not match its ledger', p_e, p_partition
            USING ERRCODE = worst;
    END IF;
    PERFORM lock_slots(p_slots);
    UPDATE slot s
    SET escrowed = s.escrowed - (a.granted - t.sold),
        version = s.version + 1
    FROM unnest(p_slots, p_sold) AS t (slot_id, sold)
    JOIN epoch_slot a ON a.partition = p_partition AND a.e = p_e AND a.slot_id = t.slot_id
    WHERE s.id = a.slot_id AND a.granted > t.sold;
    UPDATE epoch_slot a
    SET granted = t.sold
    FROM unnest(p_slots, p_sold) AS t (slot_id, sold)
    WHERE a.partition = p_partition AND a.e = p_e AND a.slot_id = t.slot_id AND a.granted > t.sold;
    UPDATE epoch
    SET state = 'sealed', sealed_at = clock_timestamp(), frozen = true
    WHERE partition = p_partition AND e = p_e;
    RETURN true;
END $$;
COMMENT ON FUNCTION freeze_epoch IS 'R6: seals an epoch with its sold counts and takes the unsold back.';

-- W6. Purpose: note that nothing of an epoch is left in the queue.
-- Pre:  p_e is sealed or closed: its barrier goes out only after the seal.
-- Post: drained_at is set; the first time stays.
-- Locks: the epoch.
CREATE FUNCTION record_drained(p_partition smallint, p_e bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE epoch
    SET drained_at = coalesce(drained_at, clock_timestamp())
    WHERE partition = p_partition AND e = p_e AND state <> 'open';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'epoch % of partition % is not sealed', p_e, p_partition
            USING ERRCODE = 'SR006';
    END IF;
END $$;
COMMENT ON FUNCTION record_drained IS 'W6: the epoch''s barrier came through.';

-- R9. Purpose: take back what an ended epoch did not use.
-- Pre:  sealed; drained, or frozen with everything sold consumed; nothing of it parked, nor any
--       message of the partition that may hold something of it. The caller has checked the outbox.
-- Post: escrowed - (granted - consumed); closed.
-- Returns true if it is closed, now or before.
-- Locks: epochs; slots.
CREATE FUNCTION close_epoch(p_partition smallint, p_e bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    was epoch%ROWTYPE;
BEGIN
    PERFORM lock_epochs(p_partition, ARRAY[p_e]);
    SELECT * INTO was FROM epoch WHERE partition = p_partition AND e = p_e;
    IF was.state IS DISTINCT FROM 'sealed' THEN
        RETURN coalesce(was.state = 'closed', false);
    END IF;
    IF was.drained_at IS NULL AND NOT was.frozen THEN
        RETURN false;
    END IF;
    IF was.drained_at IS NULL AND EXISTS (
        SELECT FROM epoch_slot
        WHERE partition = p_partition AND e = p_e AND consumed < granted) THEN
        RETURN false;
    END IF;
    IF EXISTS (SELECT FROM parked WHERE partition = p_partition AND e = p_e) THEN
        RETURN false;
    END IF;
    IF EXISTS (SELECT FROM parked WHERE partition = p_partition AND e IS NULL) THEN
        RETURN false;
    END IF;
    PERFORM lock_slots(ARRAY(
        SELECT slot_id FROM epoch_slot
        WHERE partition = p_partition AND e = p_e AND consumed < granted));
    UPDATE slot s
    SET escrowed = s.escrowed - (a.granted - a.consumed),
        version = s.version + 1
    FROM epoch_slot a
    WHERE a.partition = p_partition AND a.e = p_e AND a.granted > a.consumed AND s.id = a.slot_id;
    UPDATE epoch
    SET state = 'closed', closed_at = clock_timestamp()
    WHERE partition = p_partition AND e = p_e;
    RETURN true;
END $$;
COMMENT ON FUNCTION close_epoch IS 'R9: takes back what an ended epoch did not use.';

-- W1, W2. Purpose: make bookings durable, in the order given.
-- Pre:  no id and no patient twice (the caller sends waves); all of one partition.
-- Post: every booking of a known allotment has its one row. Of each new row whose epoch is not
--       closed: consumed + 1, escrowed - 1, and if it is booked, booked + 1 and the next number.
-- Returns per booking: row (made now or before), id_conflict or unknown_allotment.
-- Raises contended if another writer came between judging and writing: nothing has happened.
-- Locks: epochs; patients, because the limits are counted over all partitions; slots.
CREATE FUNCTION persist_bookings(
    p_partition smallint, p_ids bigint[], p_es bigint[], p_slots bigint[], p_patients bigint[],
    p_accounts bigint[], p_keys bytea[], p_requests bytea[], p_accepted_ms bigint[])
RETURNS TABLE (id bigint, outcome text, state text, reason text, number integer)
LANGUAGE plpgsql
-- The statements are planned once per connection, maybe while the tables are still empty: they
-- must not have settled on scanning them when they have grown.
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    outcomes text[];
    states text[];
    reasons text[];
    numbers integer[];
    versions bigint[];
    fresh integer;
    inserted_rows integer;
    slots_expected integer;
    slots_changed integer;
BEGIN
    IF (SELECT count(DISTINCT n) FROM unnest(p_patients) n) < cardinality(p_patients)
       OR (SELECT count(DISTINCT n) FROM unnest(p_ids) n) < cardinality(p_ids) THEN
        RAISE EXCEPTION 'an id or a patient is twice in one wave' USING ERRCODE = 'SR002';
    END IF;
    PERFORM lock_epochs(p_partition, p_es);
    PERFORM FROM patient p
    WHERE p.id = ANY (p_patients)
    ORDER BY p.id
    FOR NO KEY UPDATE;

    WITH batch AS MATERIALIZED (
        SELECT *
        FROM unnest(p_ids, p_es, p_slots, p_patients, p_accounts, p_keys, p_requests, p_accepted_ms)
            WITH ORDINALITY
            AS b (id, e, slot_id, patient_id, account_id, key_digest, request_digest, accepted_ms, at)
    ), allotment AS MATERIALIZED (
        -- Every look-up is a LATERAL with LIMIT 1: one index probe per row, under any plan.
        SELECT a.e, a.slot_id, ep.state = 'closed' AS is_closed, s.version, s.issued, s.session_id,
            t.withdrawn_at IS NOT NULL AS is_withdrawn, t.hospital_id, t.department_id, t.on_date,
            h.per_day_max, h.per_department_day_max, h.per_week_max
        FROM (SELECT DISTINCT b.e, b.slot_id FROM batch b) d
        CROSS JOIN LATERAL (SELECT x.* FROM epoch_slot x
            WHERE x.partition = p_partition AND x.e = d.e AND x.slot_id = d.slot_id LIMIT 1) a
        CROSS JOIN LATERAL (
            SELECT x.* FROM epoch x WHERE x.partition = p_partition AND x.e = d.e LIMIT 1) ep
        CROSS JOIN LATERAL (SELECT x.* FROM slot x WHERE x.id = d.slot_id LIMIT 1) s
        CROSS JOIN LATERAL (SELECT x.* FROM session x WHERE x.id = s.session_id LIMIT 1) t
        CROSS JOIN LATERAL (SELECT x.* FROM hospital x WHERE x.id = t.hospital_id LIMIT 1) h
    ), judged AS MATERIALIZED (
        SELECT b.*, a.session_id, a.version, a.issued, known.state AS known_state,
            known.reason AS known_reason, known.number AS known_number, held.superseded_by,
            CASE
                WHEN known.id IS NOT NULL AND known.patient_id = b.patient_id
                    AND known.slot_id = b.slot_id AND known.e = b.e THEN 'row'
                WHEN known.id IS NOT NULL THEN 'id_conflict'
                WHEN a.slot_id IS NULL THEN 'unknown_allotment'
                ELSE 'fresh'
            END AS outcome,
            CASE
                WHEN a.is_closed THEN 'late'
                WHEN a.is_withdrawn THEN 'withdrawn'
                WHEN held.superseded_by IS NOT NULL THEN 'superseded'
                WHEN held.in_session > 0 THEN 'already_booked'
                WHEN held.day >= a.per_day_max
                    OR held.department_day >= a.per_department_day_max
                    OR held.week >= a.per_week_max THEN 'limit_reached'
            END AS reason
        FROM batch b
        LEFT JOIN LATERAL (
            SELECT k.* FROM booking k WHERE k.id = b.id LIMIT 1) known ON true
        LEFT JOIN allotment a ON a.e = b.e AND a.slot_id = b.slot_id
        -- All this patient holds or held; booking_patient_key_key finds the few rows there are.
        CROSS JOIN LATERAL (
            SELECT min(k.id) FILTER (WHERE k.key_digest = b.key_digest) AS superseded_by,
                count(*) FILTER (WHERE k.state = 'booked' AND k.session_id = a.session_id) AS in_session,
                count(*) FILTER (WHERE k.state = 'booked' AND t.on_date = a.on_date) AS day,
                count(*) FILTER (WHERE k.state = 'booked' AND t.on_date = a.on_date
                    AND t.department_id = a.department_id) AS department_day,
                count(*) FILTER (WHERE k.state = 'booked'
                    AND t.on_date BETWEEN a.on_date - 6 AND a.on_date + 6) AS week
            FROM booking k
            LEFT JOIN LATERAL (SELECT x.* FROM session x
                WHERE x.id = k.session_id AND x.hospital_id = a.hospital_id LIMIT 1) t ON true
            WHERE k.patient_id = b.patient_id AND k.state <> 'rejected') held
    ), numbered AS MATERIALIZED (
        SELECT j.*, CASE WHEN j.outcome = 'fresh' AND j.reason IS NULL THEN
            (j.issued + row_number() OVER (
                PARTITION BY j.slot_id, j.outcome = 'fresh' AND j.reason IS NULL
                ORDER BY j.at))::integer END AS number
        FROM judged j
    ), inserted AS (
        INSERT INTO booking (id, partition, e, session_id, slot_id, patient_id, account_id,
            key_digest, request_digest, state, reason, superseded_by, number, accepted_at)
        SELECT n.id, p_partition, n.e, n.session_id, n.slot_id, n.patient_id, n.account_id,
            n.key_digest, n.request_digest,
            CASE WHEN n.reason IS NULL THEN 'booked' ELSE 'rejected' END, n.reason,
            CASE WHEN n.reason = 'superseded' THEN n.superseded_by END, n.number,
            from_unix_ms(n.accepted_ms)
        FROM numbered n
        WHERE n.outcome = 'fresh'
        ORDER BY n.at
        ON CONFLICT (id) DO NOTHING
        RETURNING id
    )
    SELECT array_agg(n.outcome ORDER BY n.at),
        array_agg(CASE WHEN n.outcome <> 'fresh' THEN n.known_state
            WHEN n.reason IS NULL THEN 'booked' ELSE 'rejected' END ORDER BY n.at),
        array_agg(CASE WHEN n.outcome = 'fresh' THEN n.reason ELSE n.known_reason END ORDER BY n.at),
        array_agg(CASE WHEN n.outcome = 'fresh' THEN n.number ELSE n.known_number END ORDER BY n.at),
        array_agg(n.version ORDER BY n.at),
        count(*) FILTER (WHERE n.outcome = 'fresh'),
        (SELECT count(*) FROM inserted)
    INTO outcomes, states, reasons, numbers, versions, fresh, inserted_rows
    FROM numbered n;
    IF inserted_rows < fresh THEN
        RAISE EXCEPTION 'an id got its row meanwhile' USING ERRCODE = 'SR001';
    END IF;

    IF fresh > 0 THEN
        UPDATE epoch_slot a
        SET consumed = a.consumed + c.n
        FROM (
            SELECT b.e, b.slot_id, count(*) AS n
            FROM unnest(p_es, p_slots, outcomes, reasons) AS b (e, slot_id, outcome, reason)
            WHERE b.outcome = 'fresh' AND b.reason IS DISTINCT FROM 'late'
            GROUP BY b.e, b.slot_id) c
        WHERE a.partition = p_partition AND a.e = c.e AND a.slot_id = c.slot_id;

        WITH change AS MATERIALIZED (
            SELECT b.slot_id, b.version, count(*) AS n, count(*) FILTER (WHERE b.reason IS NULL) AS won
            FROM unnest(p_slots, versions, outcomes, reasons) AS b (slot_id, version, outcome, reason)
            WHERE b.outcome = 'fresh' AND b.reason IS DISTINCT FROM 'late'
            GROUP BY b.slot_id, b.version
            ORDER BY b.slot_id
        ), changed AS (
            UPDATE slot s
            SET escrowed = s.escrowed - c.n,
                booked = s.booked + c.won,
                issued = s.issued + c.won,
                version = s.version + 1
            FROM change c
            WHERE s.id = c.slot_id AND s.version = c.version
            RETURNING s.id
        )
        SELECT (SELECT count(*) FROM change), (SELECT count(*) FROM changed)
        INTO slots_expected, slots_changed;
        IF slots_changed < slots_expected THEN
            RAISE EXCEPTION 'a slot changed meanwhile' USING ERRCODE = 'SR001';
        END IF;
    END IF;

    RETURN QUERY
    SELECT b.id, CASE WHEN b.outcome = 'fresh' THEN 'row' ELSE b.outcome END,
        CASE WHEN b.outcome IN ('fresh', 'row') THEN b.state END,
        CASE WHEN b.outcome IN ('fresh', 'row') THEN b.reason END,
        CASE WHEN b.outcome IN ('fresh', 'row') THEN b.number END
    FROM unnest(p_ids, outcomes, states, reasons, numbers) AS b (id, outcome, state, reason, number);
END $$;
COMMENT ON FUNCTION persist_bookings IS 'W1, W2: makes one wave of bookings durable.';

-- P1. Purpose: persist a parked booking and unpark it, in one transaction.
-- Pre:  p_id is parked and of kind booking; the arguments are its body, read by the caller.
-- Post: as persist_bookings; the parked row is gone if and only if the booking has its row.
-- Locks: the parked row, so that a discard or a second replay waits; then as persist_bookings.
CREATE FUNCTION replay_parked(
    p_id bigint, p_partition smallint, p_booking bigint, p_e bigint, p_slot bigint, p_patient bigint,
    p_account bigint, p_key bytea, p_request bytea, p_accepted_ms bigint)
RETURNS TABLE (outcome text, state text, reason text, number integer)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM parked WHERE id = p_id AND kind = 'booking' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT r.outcome, r.state, r.reason, r.number
    INTO outcome, state, reason, number
    FROM persist_bookings(p_partition, ARRAY[p_booking], ARRAY[p_e], ARRAY[p_slot],
        ARRAY[p_patient], ARRAY[p_account], ARRAY[p_key], ARRAY[p_request], ARRAY[p_accepted_ms]) r;
    IF outcome = 'row' THEN
        DELETE FROM parked WHERE id = p_id;
    END IF;
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION replay_parked IS 'P1: persists a parked booking and unparks it.';

-- Purpose: delete a parked row on an admin's word.
-- Pre:  it cannot be replayed: unreadable, or its id has a row, or it has no allotment. A booking
--       that could still be persisted may have been promised: it stays.
-- Post: returns whether a row was deleted.
-- Locks: the parked row.
CREATE FUNCTION discard_parked(p_id bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM parked p
    WHERE p.id = p_id
      AND (p.kind <> 'booking'
        OR EXISTS (SELECT FROM booking b WHERE b.id = p.booking_id)
        OR NOT EXISTS (
            SELECT FROM epoch_slot a
            WHERE a.partition = p.partition AND a.e = p.e AND a.slot_id = p.slot_id));
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION discard_parked IS 'Deletes a parked row that cannot be replayed.';

-- C1. Purpose: give a live booking back.
-- Pre:  it is this account's; live; its slot has not begun.
-- Post: cancelled; booked - 1. Nothing else: top_up finds the free place.
-- Returns done, not_live, too_late with the row, or nothing if there is no such booking.
-- Raises contended if the row changed meanwhile.
-- Locks: the booking; its slot. The slot's change is relative, so nothing is compared and a busy
-- slot cannot starve a cancel.
CREATE FUNCTION cancel_booking(p_id bigint, p_account bigint)
RETURNS TABLE (outcome text, b booking)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    starts_at timestamptz;
BEGIN
    SELECT k.* INTO b FROM booking k WHERE k.id = p_id AND k.account_id = p_account;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF b.state <> 'booked' THEN
        outcome := 'not_live';
        RETURN NEXT;
        RETURN;
    END IF;
    SELECT s.starts_at INTO starts_at FROM slot s WHERE s.id = b.slot_id;
    IF starts_at <= clock_timestamp() THEN
        outcome := 'too_late';
        RETURN NEXT;
        RETURN;
    END IF;
    UPDATE booking k
    SET state = 'cancelled', version = k.version + 1, changed_at = clock_timestamp()
    WHERE k.id = p_id AND k.version = b.version
    RETURNING k.* INTO b;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the booking changed meanwhile' USING ERRCODE = 'SR001';
    END IF;
    UPDATE slot s
    SET booked = s.booked - 1, version = s.version + 1
    WHERE s.id = b.slot_id;
    outcome := 'done';
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION cancel_booking IS 'C1: gives a live booking back.';

-- S1. Purpose: end a pending booking that nothing holds any more.
-- Pre:  every epoch of the partition but the open one is closed. The caller has checked the outbox.
-- Post: the id has a row: rejected(lapsed) made now, or what was there. Returns it; nothing if the
--       precondition fails and there is no row.
-- Locks: epochs, shared, so that none is opened or sealed meanwhile.
CREATE FUNCTION lapse_booking(
    p_partition smallint, p_id bigint, p_e bigint, p_slot bigint, p_patient bigint,
    p_account bigint, p_key bytea, p_request bytea, p_accepted_ms bigint)
RETURNS SETOF booking
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM epoch
    WHERE partition = p_partition AND state <> 'closed'
    ORDER BY e
    FOR SHARE;
    IF NOT EXISTS (SELECT FROM epoch WHERE partition = p_partition AND state = 'sealed') THEN
        INSERT INTO booking (id, partition, e, session_id, slot_id, patient_id, account_id,
            key_digest, request_digest, state, reason, accepted_at)
        VALUES (p_id, p_partition, p_e, p_slot >> 8, p_slot, p_patient, p_account,
            p_key, p_request, 'rejected', 'lapsed', from_unix_ms(p_accepted_ms))
        ON CONFLICT (id) DO NOTHING;
    END IF;
    RETURN QUERY SELECT * FROM booking WHERE id = p_id;
END $$;
COMMENT ON FUNCTION lapse_booking IS 'S1: ends a pending booking that nothing holds any more.';

-- Purpose: preheat planned releases that open within p_lead_ms, end those past their time.
-- Post: preheated: their slots' target is the capacity; closed: it is 0, so that nothing of them
--       is free again, whatever is cancelled. Returns how many releases changed.
-- Locks: releases by id; unclosed epochs of the partitions by (partition, number); slots.
CREATE FUNCTION advance_releases(p_lead_ms bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    due bigint[];
    until timestamptz := clock_timestamp() + p_lead_ms * interval '1 millisecond';
BEGIN
    due := ARRAY(
        SELECT id FROM release
        WHERE state <> 'closed'
          AND (closes_at <= clock_timestamp() OR (state = 'planned' AND opens_at <= until))
        ORDER BY id
        FOR NO KEY UPDATE);
    IF cardinality(due) = 0 THEN
        RETURN 0;
    END IF;
    PERFORM FROM epoch
    WHERE state <> 'closed'
      AND partition IN (SELECT partition FROM slot WHERE release_id = ANY (due))
    ORDER BY partition, e
    FOR UPDATE;
    UPDATE release
    SET state = CASE WHEN closes_at <= clock_timestamp() THEN 'closed' ELSE 'preheated' END,
        version = version + 1
    WHERE id = ANY (due);
    PERFORM lock_slots(ARRAY(SELECT id FROM slot WHERE release_id = ANY (due)));
    UPDATE slot s
    SET target = CASE WHEN r.state = 'closed' THEN 0 ELSE s.capacity END,
        version = s.version + 1
    FROM release r
    WHERE r.id = ANY (due) AND s.release_id = r.id;
    RETURN cardinality(due);
END $$;
COMMENT ON FUNCTION advance_releases IS 'Moves releases on with time.';

-- Purpose: lease a snowflake worker id nobody holds.
-- Post: the number is p_holder's for p_ttl_ms by this server's clock. floor_ms is the end of the
--       former lease (0: never leased), the latest time a former holder may have put in an id.
-- Returns nothing if all numbers are held.
-- Locks: the one lease row; rows others are looking at are passed over.
CREATE FUNCTION lease_worker_id(p_holder text, p_ttl_ms bigint)
RETURNS TABLE (number smallint, floor_ms bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    -- The one that expired first: the farther behind its floor, the better.
    SELECT l.number, unix_ms(l.expires_at) + 1 INTO number, floor_ms
    FROM lease l
    WHERE l.kind = 'worker_id' AND l.expires_at <= clock_timestamp()
    ORDER BY l.expires_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        UPDATE lease l
        SET holder = p_holder, expires_at = clock_timestamp() + p_ttl_ms * interval '1 millisecond'
        WHERE l.kind = 'worker_id' AND l.number = lease_worker_id.number;
        RETURN NEXT;
        RETURN;
    END IF;
    FOR number IN
        SELECT n FROM generate_series(0, 255) n
        EXCEPT SELECT l.number FROM lease l WHERE l.kind = 'worker_id'
        ORDER BY 1
    LOOP
        INSERT INTO lease AS l (kind, number, holder, expires_at)
        VALUES ('worker_id', lease_worker_id.number, p_holder,
            clock_timestamp() + p_ttl_ms * interval '1 millisecond')
        ON CONFLICT (kind, number) DO NOTHING;
        IF FOUND THEN
            floor_ms := 0;
            RETURN NEXT;
            RETURN;
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION lease_worker_id IS 'Leases a snowflake worker id.';

-- Purpose: find what contradicts the invariants. One statement, so one snapshot.
-- Reads only. Returns nothing on a sound ledger.
CREATE FUNCTION audit_ledger() RETURNS TABLE (invariant text, detail text)
LANGUAGE sql STABLE AS $$
    WITH live AS (
        SELECT b.slot_id, count(*) AS n FROM booking b WHERE b.state = 'booked' GROUP BY b.slot_id
    ), escrow AS (
        SELECT a.slot_id, sum(a.granted - a.consumed) AS n
        FROM epoch_slot a
        JOIN epoch ep ON ep.partition = a.partition AND ep.e = a.e
        WHERE ep.state <> 'closed'
        GROUP BY a.slot_id
    ), used AS (
        SELECT b.partition, b.e, b.slot_id, count(*) AS n
        FROM booking b
        WHERE b.reason IS NULL OR b.reason NOT IN ('late', 'lapsed')
        GROUP BY b.partition, b.e, b.slot_id
    )
    SELECT 'I1', format('slot %s: %s live, %s booked, capacity %s', s.id, coalesce(live.n, 0), s.booked, s.capacity)
    FROM slot s
    LEFT JOIN live ON live.slot_id = s.id
    WHERE coalesce(live.n, 0) <> s.booked OR s.booked > s.capacity
    UNION ALL
    SELECT 'I2', format('slot %s: %s booked + %s escrowed, capacity %s', s.id, s.booked, s.escrowed, s.capacity)
    FROM slot s
    WHERE s.booked + s.escrowed > s.capacity OR s.escrowed < 0
    UNION ALL
    SELECT 'I2', format('slot %s: %s escrowed, unclosed epochs hold %s', s.id, s.escrowed, coalesce(escrow.n, 0))
    FROM slot s
    LEFT JOIN escrow ON escrow.slot_id = s.id
    WHERE coalesce(escrow.n, 0) <> s.escrowed
    UNION ALL
    SELECT 'I5', format('booking %s: %s rows', b.id, count(*))
    FROM booking b
    GROUP BY b.id
    HAVING count(*) > 1
    UNION ALL
    SELECT 'I5', format('session %s: bookings %s are live for one patient', b.session_id, array_agg(b.id))
    FROM booking b
    WHERE b.state = 'booked'
    GROUP BY b.session_id, b.patient_id
    HAVING count(*) > 1
    UNION ALL
    SELECT 'I5', format('bookings %s stand for one key', array_agg(b.id))
    FROM booking b
    WHERE b.state <> 'rejected'
    GROUP BY b.patient_id, b.key_digest
    HAVING count(*) > 1
    UNION ALL
    SELECT 'I9', format('partition %s epoch %s slot %s: %s consumed, %s granted, %s rows',
        coalesce(a.partition, used.partition), coalesce(a.e, used.e), coalesce(a.slot_id, used.slot_id),
        a.consumed, a.granted, coalesce(used.n, 0))
    FROM epoch_slot a
    FULL JOIN used ON used.partition = a.partition AND used.e = a.e AND used.slot_id = a.slot_id
    WHERE a.slot_id IS NULL OR a.consumed > a.granted OR a.consumed <> coalesce(used.n, 0)
    UNION ALL
    SELECT 'I9', format('partition %s: %s epochs are open', ep.partition, count(*))
    FROM epoch ep
    WHERE ep.state = 'open'
    GROUP BY ep.partition
    HAVING count(*) > 1
    UNION ALL
    SELECT 'N1', format('slot %s: number %s is given to %s', b.slot_id, b.number, array_agg(b.id))
    FROM booking b
    WHERE b.number IS NOT NULL
    GROUP BY b.slot_id, b.number
    HAVING count(*) > 1
    UNION ALL
    SELECT 'N1', format('booking %s: number %s, %s issued', b.id, b.number, s.issued)
    FROM booking b
    JOIN slot s ON s.id = b.slot_id
    WHERE b.number > s.issued OR b.number < 1;
$$;
COMMENT ON FUNCTION audit_ledger IS 'Finds what contradicts the invariants; nothing on a sound ledger.';
