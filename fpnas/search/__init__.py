"""The probabilistic search: distributions, estimators, budgets, and searches on any evaluator."""

from fpnas.search.distribution import (
    ArchitectureDistribution,
    FactorizedDistribution,
    JointDistribution,
)
from fpnas.search.estimator import AdaptiveSampling, Estimator, FixedSampling
from fpnas.search.estimators import ESTIMATORS
from fpnas.search.most_probable import BudgetSolution, most_probable_within
from fpnas.search.result import Candidate, SearchResult
from fpnas.search.searcher import ArchitectureSearcher, search

__all__ = [
    "ESTIMATORS",
    "AdaptiveSampling",
    "ArchitectureDistribution",
    "ArchitectureSearcher",
    "BudgetSolution",
    "Candidate",
    "Estimator",
    "FactorizedDistribution",
    "FixedSampling",
    "JointDistribution",
    "SearchResult",
    "most_probable_within",
    "search",
]
