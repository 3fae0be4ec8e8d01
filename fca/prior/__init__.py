"""Deep prior of speech: a variational autoencoder of power spectral densities."""

from fca.prior.model import Code, Elbo, PriorConfig, SpeechPrior

__all__ = ["Code", "Elbo", "PriorConfig", "SpeechPrior"]
