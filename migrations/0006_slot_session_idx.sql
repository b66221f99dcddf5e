-- Slots are found by their session: by admission at the first wish for one of its places, by whoever looks
-- at a session, and where a doctor's sessions must not overlap. Without an index each was a walk over all
-- slots; with a hundred thousand of them, a second for sixty sessions.
CREATE INDEX slot_session_idx ON slot (session_id);
COMMENT ON INDEX slot_session_idx IS 'The slots of a session. A slot never changes its session, so counting does not touch it.';
