"""Single rows: a state that one learner owns, changed in place by one row at a time."""

from stream_em.single.owned import Owned as Owned
