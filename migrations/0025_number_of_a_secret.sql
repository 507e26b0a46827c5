-- 0025: the number of a secret is that of any secret, not only of one that signs. Changes a comment alone.

comment on column events.secret is
  'Which of its account''s configured secrets verified it, from 1; of several lists, which combination. Null if no secret did, or if it is not known.';
