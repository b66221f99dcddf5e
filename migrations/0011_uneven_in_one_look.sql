-- What a round of the reconciler asks of each partition, in one look.
--
-- It asked twice, four times a second: whether too much is set aside, and then for what is free, under
-- the lock of the epochs that every booking of the partition waits for, and with a commit of its own,
-- nearly always for nothing. Now the one look tells whether there is anything to do.

CREATE FUNCTION look_uneven(p_partition smallint)
RETURNS TABLE (has_free boolean, has_excess boolean)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $$
DECLARE
    noted bigint[] := ARRAY(SELECT u.slot_id FROM slot_uneven u WHERE u.partition = p_partition);
    current bigint := (SELECT ep.e FROM epoch ep WHERE ep.partition = p_partition AND ep.state = 'open');
BEGIN
    -- What grant_free would grant some of.
    has_free := cardinality(noted) > 0 AND EXISTS (
        SELECT
        FROM slot s
        CROSS JOIN LATERAL (SELECT t.withdrawn_at FROM session t WHERE t.id = s.session_id LIMIT 1) t
        WHERE s.id = ANY (noted)
          AND s.release_id IS NOT NULL
          AND least(s.capacity, s.target) > s.booked + s.escrowed
          AND t.withdrawn_at IS NULL);
    -- What freeze_epoch would take back: quota of slots that are no longer on offer.
    has_excess := cardinality(noted) > 0 AND EXISTS (
        SELECT
        FROM slot s
        CROSS JOIN LATERAL (
            SELECT a.granted, a.consumed
            FROM epoch_slot a
            WHERE a.partition = p_partition AND a.e = current AND a.slot_id = s.id
            LIMIT 1) a
        WHERE s.id = ANY (noted)
          AND least(s.capacity, s.target) < s.booked + s.escrowed
          AND a.granted > a.consumed); -- escrowed by this epoch: only this comes back
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION look_uneven IS 'Whether a top-up would grant anything, and a freeze of the open epoch get anything back.';

-- A release of a million slots leaves as many dead rows behind, and every look walks over them until they
-- are cleared away: 19 ms each. So that is done as soon as it is noticed, and at once.
ALTER TABLE slot_uneven SET (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0);
