-- Which slots have something to grant or to take back.
--
-- The reconciler asks four times a second. It walked over all slots on offer for the answer: with a
-- hundred thousand of them up to a second each time, nearly always to find none. An index on the
-- slots that have free places would have the counters in its predicate, and every booking would
-- write all of the slot's index entries again (no HOT update). So these slots have rows of their
-- own, kept by a trigger whose condition is false for nearly every booking: a place that was set
-- aside and is booked changes neither side of the comparison.

-- Purpose: tell whether what is set aside or booked of a slot is not what may be.
-- Less than may be is free, and granted by R4. More is taken back by R6, if any of it is set aside.
CREATE FUNCTION slot_is_uneven(capacity integer, target integer, booked integer, escrowed integer)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN least(capacity, target) > booked + escrowed
    OR (escrowed > 0 AND least(capacity, target) < booked + escrowed);
COMMENT ON FUNCTION slot_is_uneven IS 'Whether a slot has something to grant or to take back.';

CREATE TABLE slot_uneven (
    partition smallint NOT NULL,
    slot_id   bigint   NOT NULL,
    CONSTRAINT slot_uneven_pkey PRIMARY KEY (partition, slot_id)
);
COMMENT ON TABLE slot_uneven IS 'The slots of which slot_is_uneven is true; kept by triggers, under the lock of the slot.';

CREATE FUNCTION note_uneven() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF slot_is_uneven(NEW.capacity, NEW.target, NEW.booked, NEW.escrowed) THEN
        INSERT INTO slot_uneven (partition, slot_id) VALUES (NEW.partition, NEW.id)
        ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM slot_uneven WHERE partition = NEW.partition AND slot_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION note_uneven IS 'Keeps slot_uneven.';

CREATE TRIGGER slot_uneven_insert AFTER INSERT ON slot
FOR EACH ROW
WHEN (slot_is_uneven(NEW.capacity, NEW.target, NEW.booked, NEW.escrowed))
EXECUTE FUNCTION note_uneven();

CREATE TRIGGER slot_uneven_update AFTER UPDATE ON slot
FOR EACH ROW
WHEN (slot_is_uneven(OLD.capacity, OLD.target, OLD.booked, OLD.escrowed)
    <> slot_is_uneven(NEW.capacity, NEW.target, NEW.booked, NEW.escrowed))
EXECUTE FUNCTION note_uneven();

-- Nobody writes to slots until this migration is committed: the triggers lock the table.
INSERT INTO slot_uneven (partition, slot_id)
SELECT partition, id FROM slot WHERE slot_is_uneven(capacity, target, booked, escrowed);

-- As in 0002_steps.sql, but for where the slots are found and how many: a statement that grants a
-- quarter of a million slots would meet its timeout, every time anew. The rest is granted by the next
-- top-ups, a fraction of a second later.
CREATE OR REPLACE FUNCTION grant_free(p_partition smallint, p_e bigint)
RETURNS TABLE (slot_id bigint, granted integer, release_id bigint)
LANGUAGE plpgsql
-- Planned maybe while the tables are nearly empty, and kept when they have grown, so no plan may
-- depend on what the planner thinks of their size: slots are found by an array of their ids, other
-- rows by a LATERAL with LIMIT 1, and what is left to join is hashed. As loops, ten thousand slots
-- were held against ten thousand, which took longer than a statement may.
SET enable_seqscan = off
SET enable_nestloop = off
SET plan_cache_mode = force_generic_plan
SET jit = off -- what is forced counts as dear, and would be compiled each time
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH offer AS MATERIALIZED (
        SELECT s.id, s.version, least(s.capacity, s.target) - s.booked - s.escrowed AS free
        FROM slot s
        CROSS JOIN LATERAL (SELECT t.withdrawn_at FROM session t WHERE t.id = s.session_id LIMIT 1) t
        WHERE s.id = ANY (ARRAY(SELECT u.slot_id FROM slot_uneven u WHERE u.partition = p_partition))
          AND s.release_id IS NOT NULL
          AND least(s.capacity, s.target) > s.booked + s.escrowed
          AND t.withdrawn_at IS NULL
        ORDER BY s.id
        LIMIT 10000
        FOR NO KEY UPDATE OF s
    ), taken AS (
        UPDATE slot s
        SET escrowed = s.escrowed + offer.free,
            version = s.version + 1
        FROM offer
        WHERE s.id = ANY (ARRAY(SELECT o.id FROM offer o))
          AND s.id = offer.id
          AND s.version = offer.version
        RETURNING s.id, offer.free
    ), allotted AS (
        INSERT INTO epoch_slot AS a (partition, e, slot_id, granted)
        SELECT p_partition, p_e, taken.id, taken.free
        FROM taken
        ON CONFLICT (partition, e, slot_id) DO UPDATE
        SET granted = a.granted + excluded.granted
        RETURNING a.slot_id, a.granted
    )
    SELECT allotted.slot_id, allotted.granted, s.release_id
    FROM allotted
    CROSS JOIN LATERAL (SELECT x.release_id FROM slot x WHERE x.id = allotted.slot_id LIMIT 1) s;
END $$;

DROP INDEX slot_on_offer_idx;

-- Purpose: tell whether the open epoch holds quota of slots that are no longer on offer (target below
-- booked + escrowed): R6 gets it back.
CREATE FUNCTION has_excess(p_partition smallint) RETURNS boolean
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $$
DECLARE
    current bigint := (SELECT ep.e FROM epoch ep WHERE ep.partition = p_partition AND ep.state = 'open');
BEGIN
    RETURN EXISTS (
        SELECT
        FROM slot s
        CROSS JOIN LATERAL (
            SELECT a.granted, a.consumed
            FROM epoch_slot a
            WHERE a.partition = p_partition AND a.e = current AND a.slot_id = s.id
            LIMIT 1) a
        WHERE s.id = ANY (ARRAY(SELECT u.slot_id FROM slot_uneven u WHERE u.partition = p_partition))
          AND least(s.capacity, s.target) < s.booked + s.escrowed
          AND a.granted > a.consumed); -- escrowed by this epoch: only this comes back
END $$;
COMMENT ON FUNCTION has_excess IS 'Whether a freeze of the open epoch would get anything back.';

CREATE FUNCTION audit_uneven() RETURNS TABLE (invariant text, detail text)
LANGUAGE sql STABLE AS $$
    SELECT 'I6', format('slot %s: %s of %s booked, %s escrowed: %s', s.id, s.booked, least(s.capacity, s.target),
        s.escrowed, CASE WHEN u.slot_id IS NULL THEN 'uneven, not noted' ELSE 'noted, not uneven' END)
    FROM slot s
    LEFT JOIN slot_uneven u ON u.partition = s.partition AND u.slot_id = s.id
    WHERE slot_is_uneven(s.capacity, s.target, s.booked, s.escrowed) <> (u.slot_id IS NOT NULL);
$$;
COMMENT ON FUNCTION audit_uneven IS 'Finds slots that the reconciler would not look at; nothing on a sound ledger.';
