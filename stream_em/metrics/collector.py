"""The Prometheus side: a collector that reads one snapshot for a whole scrape."""

import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import final

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from stream_em.metrics.catalogue import (
    CATALOGUE,
    COUNTER,
    GAUGE,
    HISTOGRAM,
    INFO,
    PREFIX,
    STATESET,
    SUMMARY,
    Family,
)
from stream_em.metrics.meter import Meter
from stream_em.metrics.readings import Sample, readings

Samples = Iterable[Sample]


@final
class SnapshotCollector(Collector):
    """Yields every family of the catalogue; all values of a scrape belong to one batch."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def describe(self) -> list[Metric]:
        """The families without samples, so that a registry can refuse duplicate names."""
        return [self._family(family, ()) for family in CATALOGUE]

    def collect(self) -> list[Metric]:
        """The families with their samples."""
        snapshot = self._meter.snapshot  # the one look: a single attribute, replaced as a whole
        found: dict[str, list[Sample]] = {family.name: [] for family in CATALOGUE}
        for sample in readings(self._meter.about, snapshot, self._meter.logs.counts):
            found[sample.name].append(sample)
        return [self._family(family, found[family.name]) for family in CATALOGUE]

    def _family(self, family: Family, samples: Samples) -> Metric:
        text = family.help.replace("{half_life}", f"{self._meter.about.half_life_events:,g}")
        return BUILDERS[family.type](family, PREFIX + family.name, text, samples)


def registry(meter: Meter) -> CollectorRegistry:
    """A registry of its own with the meter's families and those of process and interpreter."""
    made = CollectorRegistry()
    made.register(SnapshotCollector(meter))
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    return made


def _counter(family: Family, name: str, text: str, samples: Samples) -> Metric:
    made = CounterMetricFamily(name, text, labels=family.labels)
    for sample in samples:
        made.add_metric(sample.labels, sample.value)
    return made


def _gauge(family: Family, name: str, text: str, samples: Samples) -> Metric:
    made = GaugeMetricFamily(name, text, labels=family.labels)
    for sample in samples:
        if not math.isnan(sample.value):
            made.add_metric(sample.labels, sample.value)
    return made


def _histogram(family: Family, name: str, text: str, samples: Samples) -> Metric:
    made = HistogramMetricFamily(name, text, labels=family.labels)
    for sample in samples:
        buckets, total = sample.value
        made.add_metric(sample.labels, buckets, total)
    return made


def _summary(family: Family, name: str, text: str, samples: Samples) -> Metric:
    made = SummaryMetricFamily(name, text, labels=family.labels)
    for sample in samples:
        count, total = sample.value
        made.add_metric(sample.labels, count, total)
    return made


def _info(family: Family, name: str, text: str, samples: Samples) -> Metric:
    made = InfoMetricFamily(name.removesuffix("_info"), text)
    for sample in samples:
        made.add_metric([], sample.value)
    return made


def _state_set(family: Family, name: str, text: str, samples: Samples) -> Metric:
    made = StateSetMetricFamily(name, text)
    for sample in samples:
        made.add_metric([], sample.value)
    return made


BUILDERS: Mapping[str, Callable[[Family, str, str, Samples], Metric]] = MappingProxyType(
    {
        COUNTER: _counter,
        GAUGE: _gauge,
        HISTOGRAM: _histogram,
        SUMMARY: _summary,
        INFO: _info,
        STATESET: _state_set,
    }
)
