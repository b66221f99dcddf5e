-- What each program may do, and nothing else. Run by the owner after the migrations; again at will.
--
-- {gateway} and {worker} are replaced by the roles' names. Both exist: who makes them knows their
-- passwords. A step runs with the rights of who calls it, so these are the rights its statements
-- need. To lock a row is to have the right to update some column of it: where nothing else is to
-- be changed, that is one which nothing is decided by (created_at, opened_at, parked_at).
BEGIN;

DO $$ BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM {gateway}, {worker}', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO {gateway}, {worker}', current_database());
END $$;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC, {gateway}, {worker};
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, {gateway}, {worker};
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM PUBLIC, {gateway}, {worker};
GRANT USAGE ON SCHEMA public TO {gateway}, {worker};

-- Both.
GRANT EXECUTE ON FUNCTION unix_ms, from_unix_ms, lock_epochs, lock_slots, slot_is_uneven,
    persist_bookings
    TO {gateway}, {worker};
GRANT SELECT, INSERT ON deployment TO {gateway}, {worker};
-- Kept by the triggers of whoever changes a slot.
GRANT SELECT, INSERT, DELETE ON slot_uneven TO {gateway}, {worker};
GRANT SELECT ON hospital, session, release, slot, epoch, epoch_slot, booking, parked
    TO {gateway}, {worker};
GRANT SELECT, INSERT, UPDATE (holder, expires_at) ON lease TO {gateway}, {worker};
GRANT INSERT ON booking TO {gateway}, {worker};
-- Locked in turn, so that two bookings of one patient are judged one after the other.
GRANT UPDATE (created_at) ON patient TO {gateway}, {worker};

-- The gateway: accounts, the catalogue, releases, cancels, and what an admin does with what was
-- parked, which persists a booking.
GRANT EXECUTE ON FUNCTION cancel_booking, lapse_booking, replay_parked, discard_parked,
    lease_worker_id, refresh_rotate, refresh_revoke, patient_add, session_create, release_create,
    release_change, sessions_of_release TO {gateway};
GRANT SELECT, INSERT, UPDATE (created_at) ON account TO {gateway};
GRANT SELECT, INSERT, UPDATE (used_at, revoked_at), DELETE ON refresh_token TO {gateway};
GRANT SELECT, INSERT ON patient TO {gateway};
GRANT SELECT, INSERT, UPDATE (name_sealed), DELETE ON account_patient TO {gateway};
GRANT SELECT, INSERT ON department TO {gateway};
-- Locked in turn, so that two sessions of one doctor are made one after the other.
GRANT SELECT, INSERT, UPDATE (created_at) ON doctor TO {gateway};
GRANT INSERT, UPDATE (created_at) ON hospital TO {gateway};
GRANT INSERT ON session, slot, release, audit_log TO {gateway};
GRANT USAGE ON SEQUENCE session_id_seq TO {gateway};
GRANT UPDATE (state, paused, version) ON release TO {gateway};
GRANT UPDATE (release_id, target, booked, escrowed, issued, version) ON slot TO {gateway};
GRANT UPDATE (opened_at) ON epoch TO {gateway};
GRANT UPDATE (consumed) ON epoch_slot TO {gateway};
GRANT UPDATE (state, version, changed_at, held_hospital_id, held_on) ON booking TO {gateway};
-- Kept by the trigger of whoever changes a booking.
GRANT SELECT, UPDATE (changes, last_tx) ON changed_bookings TO {gateway};
GRANT UPDATE (parked_at), DELETE ON parked TO {gateway};

-- The worker: what was sold becomes durable, what is free is granted. It sees nobody's data.
GRANT EXECUTE ON FUNCTION grant_free, open_epoch, top_up, look_uneven, freeze_epoch, record_drained,
    close_epoch, live_of_sessions, release_is_due, preheat_release, end_releases, audit_last, audit_part,
    audit_counts, audit_live, audit_numbers, audit_ids, audit_keys, audit_epochs, unconsumed TO {worker};
-- What workers of the version before call, in every round: they run until they are replaced.
GRANT EXECUTE ON FUNCTION has_excess, audit_ledger, audit_uneven, advance_releases TO {worker};
GRANT SELECT (id) ON patient TO {worker};
GRANT UPDATE (state, version) ON release TO {worker};
GRANT UPDATE (target, booked, escrowed, issued, version) ON slot TO {worker};
GRANT INSERT, UPDATE (state, frozen, drained_at, sealed_at, closed_at) ON epoch TO {worker};
GRANT INSERT, UPDATE (granted, consumed) ON epoch_slot TO {worker};
GRANT INSERT ON parked TO {worker};

COMMIT;
