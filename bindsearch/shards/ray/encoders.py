"""Encoders whose towers run in a pool of actors, such as on the GPUs of a cluster, while queries are prepared here."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from bindsearch.encoders.base import query_encoder
from bindsearch.environment import raise_installation_fault
from bindsearch.errors import BindSearchError, EncoderError, UsageError
from bindsearch.shards.ray.placement import one_line
from bindsearch.types import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bindsearch.encoders.base import Encoder

PASSED_ON = ("captioned", "locatable", "shorter_dims")
"""Optional members of an encoder that do not run a tower; `libraries` is none of them: they are not needed here."""


@dataclass(frozen=True)
class PoolSettings:
    """Settings of a pool of actors with the towers of an encoder.

    Attributes:
        actors: Number of actors.
        num_cpus: Cores of each.
        num_gpus: GPUs of each; a fraction shares one.
        max_pending: Calls that may wait for an actor.
        timeout_s: Time in seconds that a call may take; the first one loads a tower.
    """

    actors: int = 1
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    max_pending: int = 64
    timeout_s: float = 120.0


class EncoderActor:
    """Towers of an encoder."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def run(
        self, method: str, head: tuple[Modality | None, ...], modality: Modality, prepared: Sequence[NDArray[Any]]
    ) -> NDArray[np.float32] | BindSearchError:
        """Run a tower; `head` is empty, or has the target of a query."""
        encoder = query_encoder(self._encoder, head[0]) if head else self._encoder
        try:
            try:
                vectors: NDArray[np.float32] = getattr(encoder, method)(modality, prepared)
            except Exception as error:
                raise_installation_fault(error)
                raise
        except BindSearchError as error:
            return error
        return vectors


class RayEncoder:
    """An encoder whose `encode` and `features` run in actors; see `bindsearch.encoders.base.Encoder`. Thread-safe."""

    def __init__(self, encoder: Encoder, settings: PoolSettings = PoolSettings()) -> None:
        """Start the actors; the process must be connected to the cluster.

        Args:
            encoder: The encoder; its towers are not loaded in this process.
            settings: Settings of the pool.

        Raises:
            UsageError: a setting is out of range, or no node has what an actor needs.
        """
        import ray

        if settings.actors < 1 or settings.num_cpus < 0 or settings.num_gpus < 0:
            raise UsageError(f"{settings.actors} encoders with {settings.num_gpus:g} GPUs each: give at least 1 and 0")
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        needs = {"CPU": settings.num_cpus, "GPU": settings.num_gpus}
        if not any(all(node.get(what, 0) >= amount for what, amount in needs.items()) for node in nodes):
            needed = f"{settings.num_cpus:g} cores and {settings.num_gpus:g} GPUs"
            raise UsageError(f"no node of the cluster has {needed} for an encoder: give fewer")
        self._encoder, self._settings = encoder, settings
        self._head: tuple[Modality | None, ...] = ()
        self._heads: dict[int, RayEncoder] = {}
        make = ray.remote(EncoderActor).options(
            num_cpus=settings.num_cpus,
            num_gpus=settings.num_gpus,
            max_restarts=-1,
            max_task_retries=2,
            max_pending_calls=settings.max_pending,
        )
        self._actors = [make.remote(encoder) for _ in range(settings.actors)]
        self._turns = itertools.count()

    name: Any = property(attrgetter("_encoder.name"))
    dim: Any = property(attrgetter("_encoder.dim"))
    digest: Any = property(attrgetter("_encoder.digest"))
    options: Any = property(attrgetter("_encoder.options"))
    modalities: Any = property(attrgetter("_encoder.modalities"))
    temperatures: Any = property(attrgetter("_encoder.temperatures"))
    wants: Any = property(attrgetter("_encoder.wants"))
    max_tokens: Any = property(attrgetter("_encoder.max_tokens"))
    count_tokens: Any = property(attrgetter("_encoder.count_tokens"))
    prepare: Any = property(attrgetter("_encoder.prepare"))

    def features(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return temperature-scaled features, float32 (n, d), from an actor."""
        return self._run("features", modality, prepared)

    def encode(self, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return vectors of unit L2 norm, float32 (n, d), from an actor."""
        return self._run("encode", modality, prepared)

    def close(self) -> None:
        """End the actors."""
        import ray

        for actor in self._actors:
            ray.kill(actor, no_restart=True)

    def __getattr__(self, name: str) -> Any:
        """Return an optional member that the encoder has; others are refused, so that no tower is loaded here."""
        if name == "as_query" and hasattr(self._encoder, name):
            return self._as_query
        if name == "locate" and hasattr(self._encoder, name):
            return partial(self._run, name)
        if name in PASSED_ON:
            return getattr(self._encoder, name)
        raise AttributeError(f"an encoder in actors has no {name}")

    def _as_query(self, target: Modality | None) -> RayEncoder:
        """Return the encoder of queries that search one modality; it shares the actors."""
        head = self._encoder.as_query(target)  # type: ignore[attr-defined]
        if head is self._encoder:
            return self
        if id(head) not in self._heads:  # both are kept, so that no other object gets the id
            made = object.__new__(RayEncoder)
            made.__dict__ = {**self.__dict__, "_encoder": head, "_head": (target,), "_heads": {}}
            self._heads[id(head)] = made
        return self._heads[id(head)]

    def _run(self, method: str, modality: Modality, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Run a tower in the next actor; raise EncoderError if none answers in time, and the errors of the encoder."""
        import ray

        actor = self._actors[next(self._turns) % len(self._actors)]
        try:
            reference = actor.run.remote(method, self._head, modality, list(prepared))
            answer = ray.get(reference, timeout=self._settings.timeout_s)
        except ray.exceptions.GetTimeoutError:
            limit = f"{self._settings.timeout_s:g} s"
            raise EncoderError(f"no encoder of {self.name} in the cluster answers in {limit}: start more") from None
        except ray.exceptions.PendingCallsLimitExceeded:
            raise EncoderError(f"too many queries wait for the encoders of {self.name}: start more") from None
        except Exception as error:
            raise EncoderError(f"the encoders of {self.name} in the cluster fail: {one_line(error)}") from error
        if isinstance(answer, BindSearchError):
            raise answer
        vectors: NDArray[np.float32] = answer
        return vectors
