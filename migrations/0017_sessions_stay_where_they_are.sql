-- A session keeps its hospital and its date, which its live bookings carry since 0016.
--
-- Both programs only ever withdraw a session. Who moved one by hand would leave its bookings where they were:
-- a patient who is in it and asks again would not be found there, and the unique key would refuse the whole
-- batch of the worker, each time anew.

CREATE FUNCTION refuse_session_move() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a session keeps its hospital and its date: withdraw it and make another'
        USING ERRCODE = 'restrict_violation';
END $$;
COMMENT ON FUNCTION refuse_session_move IS 'Keeps booking.held_hospital_id and booking.held_on true.';

CREATE TRIGGER session_stays BEFORE UPDATE OF hospital_id, on_date ON session
FOR EACH ROW
WHEN (old.hospital_id <> new.hospital_id OR old.on_date <> new.on_date)
EXECUTE FUNCTION refuse_session_move();
