"""Property tests of a derivation: every claim is compared with the discrete optimizer or with brute force, on random numbers."""

from derivations.check.claim import Claim, Evidence, Refuted
from derivations.check.engine import Counterexample, Verdict, all_claims, judge, try_claim
from derivations.check.subject import Subject

__all__ = ["Claim", "Counterexample", "Evidence", "Refuted", "Subject", "Verdict", "all_claims", "judge", "try_claim"]
