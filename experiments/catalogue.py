"""The list of exhibits. Names and one-liners only, so that a list costs nothing; code is loaded when one is run."""

from slt_lab.catalogue import Catalogue, Listed

__all__ = ["CATALOGUE"]

LISTED = (
    Listed(
        "lrt-stages",
        "linear-regression transformers develop in stages LR1-LR5",
        "arXiv 2402.02364, figures 1 and 2",
        "experiments.lrt_stages",
        "configs.lrt_stages",
    ),
    Listed(
        "lrt-reference",
        "what the LLC's fall in LR4 consists of: adjusted chains beside SGLD and underdamped ones",
        "arXiv 2402.02364, stage LR4",
        "experiments.lrt_reference",
        "configs.lrt_reference",
    ),
    Listed(
        "transient-ridge",
        "transformers learn ridge regression in context, then give it up for the tasks they trained on",
        "arXiv 2501.17745, figures 1 and 2",
        "experiments.transient_ridge",
        "configs.transient_ridge",
    ),
    Listed(
        "lm-stages",
        "small language models learn bigrams, n-grams, previous-token and induction heads, LM1-LM5",
        "arXiv 2402.02364, figures 1 and 3",
        "experiments.lm_stages",
        "configs.lm_stages",
    ),
    Listed(
        "refined-llc",
        "attention heads told apart by their LLCs, refined by weights and by data",
        "arXiv 2410.02984, figures 2-5",
        "experiments.refined_llc",
        "configs.refined_llc",
    ),
    Listed(
        "susceptibilities",
        "how every attention head answers to every kind of token, over training",
        "arXiv 2504.18274",
        "experiments.susceptibilities",
        "configs.susceptibilities",
    ),
    Listed(
        "influence",
        "what one training example does to a prediction: Bayesian and classical influence beside retraining",
        "arXiv 2509.26544",
        "experiments.influence",
        "configs.influence",
    ),
    Listed(
        "deep-linear-networks",
        "estimates on random deep linear networks against their exact local learning coefficient",
        "arXiv 2402.03698; 2308.12108, appendix J",
        "experiments.deep_linear_networks",
        "configs.deep_linear_networks",
    ),
    Listed(
        "known-models",
        "every sampler on singular models whose exact value is known, and the coverage of its error bars",
        "arXiv 2308.12108",
        "experiments.known_models",
        "configs.known_models",
    ),
    Listed(
        "digits",
        "a network trained on handwritten digits: every sampler beside the No-U-Turn sampler",
        "arXiv 2507.21449",
        "experiments.digits",
        "configs.digits",
    ),
    Listed(
        "superposition",
        "a toy model of superposition: phases, their LLCs, and which of them SGD and the posterior find",
        "arXiv 2310.06301",
        "experiments.superposition",
        "configs.superposition",
    ),
    Listed(
        "programs",
        "exact learning coefficients of noisy Turing machines, samplers beside them, and whether short is simple",
        "Clift, Murfet & Wallbridge 2021, Geometry of program synthesis",
        "experiments.programs",
        "configs.programs",
    ),
    Listed(
        "self-repair",
        "does a network that repairs itself have a lower learning coefficient? Exact toys, and trained models",
        "a conjecture; docs/self-repair.md",
        "experiments.self_repair",
        "configs.self_repair",
    ),
    Listed(
        "plasticity",
        "do attention heads whose learning coefficient has fallen resist further training?",
        "a conjecture; docs/results/plasticity/predictions.md",
        "experiments.plasticity",
        "configs.plasticity",
    ),
)

CATALOGUE = Catalogue("python -m experiments", {listed.name: listed for listed in LISTED})
