-- Limits without a look at everything the patient ever booked.
--
-- To judge a booking, all live and cancelled ones of its patient were read, each with its session: some 4 µs
-- for each of them, for every further booking.

ALTER TABLE booking ADD COLUMN held_hospital_id bigint, ADD COLUMN held_on date;
-- Nothing changes that anybody reads: no poll needs to look again.
ALTER TABLE booking DISABLE TRIGGER changed_bookings_count;
UPDATE booking b
SET held_hospital_id = t.hospital_id, held_on = t.on_date
FROM session t
WHERE b.state = 'booked' AND t.id = b.session_id;
ALTER TABLE booking ENABLE TRIGGER changed_bookings_count;
ALTER TABLE booking ADD CONSTRAINT booking_held_check CHECK (
    (state = 'booked') = (held_on IS NOT NULL) AND (state = 'booked') = (held_hospital_id IS NOT NULL));
-- Its condition is no other index's, so that no other index can take its place in a plan.
CREATE INDEX booking_held_idx ON booking (patient_id, held_hospital_id, held_on) WHERE held_on IS NOT NULL;
COMMENT ON COLUMN booking.held_hospital_id IS 'Whose limits a live booking counts against: the hospital of its session.';
COMMENT ON COLUMN booking.held_on IS 'On what date it counts: that of its session, which keeps both.';

-- W1, W2: as in 0002_steps.sql, but for what the patient holds.
CREATE OR REPLACE FUNCTION persist_bookings(
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
        SELECT b.*, a.session_id, a.hospital_id, a.on_date, a.version, a.issued, known.state AS known_state,
            known.reason AS known_reason, known.number AS known_number, standing.id AS superseded_by,
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
                WHEN standing.id IS NOT NULL THEN 'superseded'
                WHEN held.in_session > 0 THEN 'already_booked'
                WHEN held.day >= a.per_day_max
                    OR held.department_day >= a.per_department_day_max
                    OR held.week >= a.per_week_max THEN 'limit_reached'
            END AS reason
        FROM batch b
        LEFT JOIN LATERAL (
            SELECT k.* FROM booking k WHERE k.id = b.id LIMIT 1) known ON true
        LEFT JOIN allotment a ON a.e = b.e AND a.slot_id = b.slot_id
        LEFT JOIN LATERAL (
            SELECT k.id FROM booking k
            WHERE k.patient_id = b.patient_id AND k.key_digest = b.key_digest
              AND k.state <> 'rejected' LIMIT 1) standing ON true
        -- What the patient holds there within six days, in few rows. held_on says that they are live: with
        -- their state, plans made while the table is empty would settle on another index, and read all of it.
        CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE k.session_id = a.session_id) AS in_session,
                count(*) FILTER (WHERE k.held_on = a.on_date) AS day,
                count(*) FILTER (WHERE k.held_on = a.on_date
                    AND t.department_id = a.department_id) AS department_day,
                count(*) AS week
            FROM booking k
            CROSS JOIN LATERAL (SELECT x.* FROM session x WHERE x.id = k.session_id LIMIT 1) t
            WHERE k.patient_id = b.patient_id
              AND k.held_hospital_id = a.hospital_id
              AND k.held_on BETWEEN a.on_date - 6 AND a.on_date + 6) held
    ), numbered AS MATERIALIZED (
        SELECT j.*, CASE WHEN j.outcome = 'fresh' AND j.reason IS NULL THEN
            (j.issued + row_number() OVER (
                PARTITION BY j.slot_id, j.outcome = 'fresh' AND j.reason IS NULL
                ORDER BY j.at))::integer END AS number
        FROM judged j
    ), inserted AS (
        INSERT INTO booking (id, partition, e, session_id, slot_id, patient_id, account_id,
            key_digest, request_digest, state, reason, superseded_by, number, accepted_at,
            held_hospital_id, held_on)
        SELECT n.id, p_partition, n.e, n.session_id, n.slot_id, n.patient_id, n.account_id,
            n.key_digest, n.request_digest,
            CASE WHEN n.reason IS NULL THEN 'booked' ELSE 'rejected' END, n.reason,
            CASE WHEN n.reason = 'superseded' THEN n.superseded_by END, n.number,
            from_unix_ms(n.accepted_ms),
            CASE WHEN n.reason IS NULL THEN n.hospital_id END,
            CASE WHEN n.reason IS NULL THEN n.on_date END
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

-- C1: as in 0002_steps.sql; what is cancelled is not held.
CREATE OR REPLACE FUNCTION cancel_booking(p_id bigint, p_account bigint)
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
    SET state = 'cancelled', held_hospital_id = NULL, held_on = NULL,
        version = k.version + 1, changed_at = clock_timestamp()
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
