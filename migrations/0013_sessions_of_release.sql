-- The sessions of a release, for those who read what will be asked for before it opens. By the index of
-- releases, whatever the planner last counted: where it knows of few slots it would rather read all of them.
CREATE FUNCTION sessions_of_release(p_release bigint, p_limit bigint) RETURNS SETOF bigint
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT DISTINCT s.session_id
    FROM slot s
    WHERE s.release_id = p_release
    LIMIT p_limit;
END $$;
COMMENT ON FUNCTION sessions_of_release IS 'The sessions that a release has slots of, once each, in no order.';
