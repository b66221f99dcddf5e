-- The audit in parts, so that it needs no more at a time with a million slots than with a thousand.
--
-- As one statement over everything it took 2 s with 100,000 slots and 300,000 bookings, and half a
-- minute with a million of each: more than a statement may, so it never came to an end. Every
-- invariant is a matter of one slot and its session, of one id, or of one key. So each is judged
-- by ranges of these, which cover all there can be, and each range on one snapshot.
--
-- Planned anew for every call (force_custom_plan), with the bounds and the size of the tables as
-- they are: everything is read by table, a range by index. Never as loops: what the planner takes
-- for one row may be ten thousand.

-- The allotments of a range of slots, in whichever epoch. The whole key, so that whoever takes this index
-- for the other one finds the one row as well. None of it ever changes, so counting does
-- not touch it.
CREATE INDEX epoch_slot_slot_idx ON epoch_slot (slot_id, partition, e);
COMMENT ON INDEX epoch_slot_slot_idx IS 'The allotments of a slot; for the audit.';

-- Purpose: tell where a part of the audit that begins at p_first ends.
-- Post: the last key of a range with p_rows rows and few more, or the last there can be. Slots end
--       where a session does, and count their bookings, too.
CREATE FUNCTION audit_last(p_walk text, p_first bigint, p_rows integer) RETURNS bigint
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET enable_sort = off -- by the order of an index, and no farther than the limit
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $$
DECLARE
    next bigint;
BEGIN
    CASE p_walk
    WHEN 'slots' THEN
        next := least(
            (SELECT s.id FROM slot s
             WHERE s.id >= p_first
             ORDER BY s.id OFFSET p_rows LIMIT 1),
            (SELECT b.slot_id FROM booking b
             WHERE b.slot_id >= p_first
             ORDER BY b.slot_id OFFSET p_rows LIMIT 1));
        IF next >> 8 = p_first >> 8 THEN
            RETURN p_first | 255;
        END IF;
        RETURN coalesce((next >> 8 << 8) - 1, 9223372036854775807);
    WHEN 'ids' THEN
        next := (SELECT b.id FROM booking b WHERE b.id > p_first ORDER BY b.id OFFSET p_rows LIMIT 1);
    WHEN 'keys' THEN
        next := (SELECT b.patient_id FROM booking b
                 WHERE b.patient_id > p_first AND b.state <> 'rejected'
                 ORDER BY b.patient_id OFFSET p_rows LIMIT 1);
    WHEN 'epochs' THEN next := NULL;
    END CASE;
    RETURN coalesce(next - 1, 9223372036854775807);
END $$;
COMMENT ON FUNCTION audit_last IS 'Where a part of the audit ends.';

-- Purpose: find what contradicts I1, I2, I5 (live patients), I6, I9 and N1 at these slots.
-- Pre:  the range begins and ends where a session does, so that nobody of a session is outside.
-- Reads only, in one statement. Returns nothing on a sound ledger.
CREATE FUNCTION audit_slots(p_first bigint, p_last bigint) RETURNS TABLE (invariant text, detail text)
LANGUAGE plpgsql STABLE
SET enable_nestloop = off
SET plan_cache_mode = force_custom_plan
SET jit = off
AS $$
BEGIN
    RETURN QUERY
    WITH place AS MATERIALIZED (
        SELECT s.id, s.partition, s.capacity, s.target, s.booked, s.escrowed, s.issued
        FROM slot s
        WHERE s.id BETWEEN p_first AND p_last
    ), entry AS MATERIALIZED (
        SELECT b.id, b.partition, b.e, b.session_id, b.slot_id, b.patient_id, b.state, b.number,
            b.reason IS NULL OR b.reason NOT IN ('late', 'lapsed') AS is_used
        FROM booking b
        WHERE b.slot_id BETWEEN p_first AND p_last
    ), allotment AS MATERIALIZED (
        SELECT a.partition, a.e, a.slot_id, a.granted, a.consumed
        FROM epoch_slot a
        WHERE a.slot_id BETWEEN p_first AND p_last
    ), noted AS MATERIALIZED (
        SELECT u.partition, u.slot_id
        FROM slot_uneven u
        -- One probe for each partition there can be: the key begins with it.
        WHERE u.partition = ANY (ARRAY(SELECT p::smallint FROM generate_series(0, 63) p))
          AND u.slot_id BETWEEN p_first AND p_last
    ), live AS (
        SELECT r.slot_id, count(*) AS n FROM entry r WHERE r.state = 'booked' GROUP BY r.slot_id
    ), escrow AS (
        SELECT a.slot_id, sum(a.granted - a.consumed) AS n
        FROM allotment a
        JOIN epoch ep ON ep.partition = a.partition AND ep.e = a.e
        WHERE ep.state <> 'closed'
        GROUP BY a.slot_id
    ), used AS (
        SELECT r.partition, r.e, r.slot_id, count(*) AS n
        FROM entry r
        WHERE r.is_used
        GROUP BY r.partition, r.e, r.slot_id
    )
    SELECT 'I1', format('slot %s: %s live, %s booked, capacity %s', s.id, coalesce(live.n, 0), s.booked, s.capacity)
    FROM place s
    LEFT JOIN live ON live.slot_id = s.id
    WHERE coalesce(live.n, 0) <> s.booked OR s.booked > s.capacity
    UNION ALL
    SELECT 'I2', format('slot %s: %s booked + %s escrowed, capacity %s', s.id, s.booked, s.escrowed, s.capacity)
    FROM place s
    WHERE s.booked + s.escrowed > s.capacity OR s.escrowed < 0
    UNION ALL
    SELECT 'I2', format('slot %s: %s escrowed, unclosed epochs hold %s', s.id, s.escrowed, coalesce(escrow.n, 0))
    FROM place s
    LEFT JOIN escrow ON escrow.slot_id = s.id
    WHERE coalesce(escrow.n, 0) <> s.escrowed
    UNION ALL
    SELECT 'I5', format('session %s: bookings %s are live for one patient', r.session_id, array_agg(r.id))
    FROM entry r
    WHERE r.state = 'booked'
    GROUP BY r.session_id, r.patient_id
    HAVING count(*) > 1
    UNION ALL
    -- Its session would be another range's, and nobody would compare them.
    SELECT 'I5', format('booking %s: slot %s is not of session %s', r.id, r.slot_id, r.session_id)
    FROM entry r
    WHERE r.slot_id >> 8 <> r.session_id
    UNION ALL
    SELECT 'I6', format('slot %s: %s of %s booked, %s escrowed: %s', s.id, s.booked, least(s.capacity, s.target),
        s.escrowed, CASE WHEN u.slot_id IS NULL THEN 'uneven, not noted' ELSE 'noted, not uneven' END)
    FROM place s
    LEFT JOIN noted u ON u.partition = s.partition AND u.slot_id = s.id
    WHERE slot_is_uneven(s.capacity, s.target, s.booked, s.escrowed) <> (u.slot_id IS NOT NULL)
    UNION ALL
    SELECT 'I9', format('partition %s epoch %s slot %s: %s consumed, %s granted, %s rows',
        coalesce(a.partition, used.partition), coalesce(a.e, used.e), coalesce(a.slot_id, used.slot_id),
        a.consumed, a.granted, coalesce(used.n, 0))
    FROM allotment a
    FULL JOIN used ON used.partition = a.partition AND used.e = a.e AND used.slot_id = a.slot_id
    WHERE a.slot_id IS NULL OR a.consumed > a.granted OR a.consumed <> coalesce(used.n, 0)
    UNION ALL
    SELECT 'N1', format('slot %s: number %s is given to %s', r.slot_id, r.number, array_agg(r.id))
    FROM entry r
    WHERE r.number IS NOT NULL
    GROUP BY r.slot_id, r.number
    HAVING count(*) > 1
    UNION ALL
    SELECT 'N1', format('booking %s: number %s, %s issued', r.id, r.number, s.issued)
    FROM entry r
    JOIN place s ON s.id = r.slot_id
    WHERE r.number > s.issued OR r.number < 1;
END $$;
COMMENT ON FUNCTION audit_slots IS 'Finds what contradicts the invariants at some slots; nothing on a sound ledger.';

-- Purpose: find booking ids of this range that have two rows (I5).
CREATE FUNCTION audit_ids(p_first bigint, p_last bigint) RETURNS TABLE (invariant text, detail text)
LANGUAGE plpgsql STABLE
SET enable_nestloop = off
SET plan_cache_mode = force_custom_plan
SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT 'I5', format('booking %s: %s rows', b.id, count(*))
    FROM booking b
    WHERE b.id BETWEEN p_first AND p_last
    GROUP BY b.id
    HAVING count(*) > 1;
END $$;
COMMENT ON FUNCTION audit_ids IS 'Finds ids with two rows; nothing on a sound ledger.';

-- Purpose: find keys of this range of patients that two bookings stand for (I5).
CREATE FUNCTION audit_keys(p_first bigint, p_last bigint) RETURNS TABLE (invariant text, detail text)
LANGUAGE plpgsql STABLE
SET enable_nestloop = off
SET plan_cache_mode = force_custom_plan
SET jit = off
AS $$
BEGIN
    RETURN QUERY
    -- First by the index alone, then which they are.
    WITH twice AS MATERIALIZED (
        SELECT b.patient_id, b.key_digest
        FROM booking b
        WHERE b.patient_id BETWEEN p_first AND p_last
          AND b.state <> 'rejected'
        GROUP BY b.patient_id, b.key_digest
        HAVING count(*) > 1
    )
    SELECT 'I5', format('bookings %s stand for one key', array_agg(b.id))
    FROM booking b
    JOIN twice t ON t.patient_id = b.patient_id AND t.key_digest = b.key_digest
    WHERE b.patient_id = ANY (ARRAY(SELECT t.patient_id FROM twice t))
      AND b.state <> 'rejected'
    GROUP BY b.patient_id, b.key_digest;
END $$;
COMMENT ON FUNCTION audit_keys IS 'Finds keys that two bookings stand for; nothing on a sound ledger.';

-- Purpose: find partitions with two open epochs (I9).
CREATE FUNCTION audit_epochs() RETURNS TABLE (invariant text, detail text)
LANGUAGE sql STABLE AS $$
    SELECT 'I9', format('partition %s: %s epochs are open', ep.partition, count(*))
    FROM epoch ep
    WHERE ep.state = 'open'
    GROUP BY ep.partition
    HAVING count(*) > 1;
$$;
COMMENT ON FUNCTION audit_epochs IS 'Finds partitions with two open epochs; nothing on a sound ledger.';

-- Purpose: audit one part, as audit_last has bounded it.
-- Reads only, in one statement, so on one snapshot.
CREATE FUNCTION audit_part(p_walk text, p_first bigint, p_last bigint)
RETURNS TABLE (invariant text, detail text)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    CASE p_walk
    WHEN 'slots' THEN RETURN QUERY SELECT * FROM audit_slots(p_first, p_last);
    WHEN 'ids' THEN RETURN QUERY SELECT * FROM audit_ids(p_first, p_last);
    WHEN 'keys' THEN RETURN QUERY SELECT * FROM audit_keys(p_first, p_last);
    WHEN 'epochs' THEN RETURN QUERY SELECT * FROM audit_epochs();
    END CASE;
END $$;
COMMENT ON FUNCTION audit_part IS 'One part of the audit; nothing on a sound ledger.';

-- Purpose: what an epoch was granted and has not consumed, of the first p_slots slots from p_first on.
-- What must be left of it in Redis once every booking it sold has its row.
CREATE FUNCTION unconsumed(p_partition smallint, p_e bigint, p_first bigint, p_slots integer)
RETURNS TABLE (slot_id bigint, unconsumed integer)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET enable_sort = off
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT a.slot_id, a.granted - a.consumed
    FROM epoch_slot a
    WHERE a.partition = p_partition
      AND a.e = p_e
      AND a.slot_id >= p_first
    ORDER BY a.slot_id
    LIMIT p_slots;
END $$;
COMMENT ON FUNCTION unconsumed IS 'What an epoch has not consumed, slot by slot.';
