-- Whoever tells Redis of bookings given back reads their changes of the last seconds again and
-- again. Without an index of their own that is a walk over every booking made meanwhile, and in a
-- release minute those are tens of thousands.
CREATE INDEX booking_given_back_idx ON booking (partition, changed_at, id)
    WHERE state = 'cancelled';
COMMENT ON INDEX booking_given_back_idx IS 'For the followers of cancels; few rows, whatever is booked.';
