"""What the model puts in the place of masked words, shown as text beside the curves.

A few validation samples of every domain, always the same and always masked the same way, so that
two evaluations differ by the model alone. Every masked token is replaced by [MASK]: unlike the
validation loss, this is for reading.
"""

# T tokens of the packed row  K masked tokens  V vocabulary

import html
import re
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from data_prep.shards import Corpus, Rows
from pretrain import masking
from pretrain.config import Objective
from pretrain.masker import Masker
from pretrain.micro_batch import MicroBatch
from pretrain.model.objective import MaskedLM
from runtime import processes
from runtime.engine import Engine

OBJECTIVE = Objective(mask_share=0.15, replace_by_mask=1.0, replace_by_random=0.0, unit="word")
SEED = 20_211
SAMPLES = 2  # of a domain
EXCERPT = 48  # tokens of a sample that are shown
CANDIDATES = 3  # most probable tokens
SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!])")  # what Python-Markdown takes a backslash before
IN_CODE = str.maketrans(
    {"`": "'", "\n": "↵", "\r": "↵", "\t": "⇥"}
)  # on one line, between backticks


@dataclass(frozen=True)
class Predictions:
    """Excerpts of validation samples, masked once and for all."""

    corpus: Corpus
    domains: list[str]  # of each excerpt
    batch: MicroBatch | None  # one packed row, the same on every rank; None: nothing to show

    @staticmethod
    def of(masker: Masker) -> "Predictions":
        """The first validation samples of every domain, in the order of the sources."""
        corpus = masker.corpus
        samples = chosen(corpus)
        if not samples:
            return Predictions(corpus, [], None)
        excerpts = [
            excerpt(corpus.reader(source, "valid").gather(np.array([sample])), corpus)
            for source, sample in samples
        ]
        rows = Rows(*(np.concatenate(parts) for parts in zip(*map(columns, excerpts), strict=True)))
        numbers = np.arange(len(samples))
        keys = masking.sample_keys(SEED, np.zeros_like(numbers), np.zeros_like(numbers), numbers)
        reading = Masker(corpus, OBJECTIVE, SEED, masker.first_position)
        domains = [corpus.sources[source].domain for source, _ in samples]
        return Predictions(corpus, domains, reading.micro_batch(rows, keys, 0.0))

    def markdown(self, engine: Engine, objective: MaskedLM) -> str:
        """What the model predicts now. All ranks call it, for the forward is a collective under
        ZeRO-3; all but rank 0 get an empty text."""
        if self.batch is None:
            return ""
        probabilities, ids = candidates(self.batch, engine, objective)
        if processes.rank() != 0:
            return ""
        tokenizer = Tokenizer.from_file(str(self.corpus.tokenizer.folder / "tokenizer.json"))
        tokens = self.batch.inputs["input_ids"].reshape(-1, EXCERPT)
        count = self.batch.num_targets
        places = self.batch.inputs["positions"][:count]
        lines = []
        for number, domain in enumerate(self.domains):
            if domain not in self.domains[:number]:
                lines.append(f"### {plain(domain)}\n")
            mine = (places // EXCERPT == number).nonzero()[:, 0].tolist()
            where = [int(places[i]) % EXCERPT for i in mine]
            lines.append(f"> {marked(tokens[number].tolist(), where, tokenizer)}\n")
            for mark, i in enumerate(mine, start=1):
                truth = int(self.batch.inputs["targets"][i])
                found = zip(ids[i].tolist(), probabilities[i].tolist(), strict=True)
                lines.append(f"{mark}. {answer(truth, list(found), tokenizer)}")
            lines.append("")
        return "\n".join(lines)


def chosen(corpus: Corpus) -> list[tuple[str, int]]:
    """Source and number of the samples shown, domain after domain."""
    by_domain: dict[str, list[tuple[str, int]]] = {}
    for name, facts in corpus.sources.items():
        mine = by_domain.setdefault(facts.domain, [])
        there = corpus.reader(name, "valid").num_samples
        mine += [(name, sample) for sample in range(min(there, SAMPLES - len(mine)))]
    return [sample for samples in by_domain.values() for sample in samples]


def excerpt(rows: Rows, corpus: Corpus) -> Rows:
    """The beginning of the first segment of one sample, padded to EXCERPT tokens."""
    length = min(int(rows.lengths[0]), EXCERPT)
    tokens = np.full((1, EXCERPT), corpus.tokenizer.pad_id, rows.tokens.dtype)
    tokens[0, :length] = rows.tokens[0, :length]
    lengths = np.array([length], rows.lengths.dtype)
    return Rows(tokens, lengths, np.ones_like(rows.counts), rows.documents[:1])


def columns(rows: Rows) -> tuple[np.ndarray, ...]:
    return rows.tokens, rows.lengths, rows.counts, rows.documents


@torch.no_grad()
def candidates(batch: MicroBatch, engine: Engine, objective: MaskedLM) -> tuple[Tensor, Tensor]:
    """Probabilities and ids of the most probable tokens at each masked place, (K, CANDIDATES)."""
    inputs = engine.to_device(batch.inputs)
    was_training = objective.training
    objective.eval()
    hidden = objective.encode(inputs["input_ids"], inputs["position_ids"], inputs["segments"])
    scored = hidden[0].index_select(0, inputs["positions"][: batch.num_targets])
    logits = objective.head.logits(scored)  # (K, D) -> (K, V)
    objective.train(was_training)
    found = torch.softmax(logits.float(), dim=-1).topk(CANDIDATES, dim=-1)
    return found.values.cpu(), found.indices.cpu()


def marked(tokens: list[int], places: list[int], tokenizer: Tokenizer) -> str:
    """The excerpt with the number of each masked token in its place."""
    parts, start = [], 0
    for mark, place in enumerate(places, start=1):
        parts += [plain(tokenizer.decode(tokens[start:place])), f"**[{mark}]**"]
        start = place + 1
    parts.append(plain(tokenizer.decode(tokens[start:])))
    return " ".join(part for part in parts if part)


def answer(truth: int, found: list[tuple[int, float]], tokenizer: Tokenizer) -> str:
    """The true token and the candidates with their probabilities; a hit is bold."""
    shown = []
    for token, probability in found:
        text = f"{shown_as(token, tokenizer)} {100 * probability:.0f} %"
        shown.append(f"**{text}**" if token == truth else text)
    return f"{shown_as(truth, tokenizer)} ← {', '.join(shown)}"


def shown_as(token: int, tokenizer: Tokenizer) -> str:
    """A token as it reads; as the vocabulary spells it if it is only a part of a character."""
    text = tokenizer.decode([token], skip_special_tokens=False).strip()
    if not text or "\ufffd" in text:
        text = tokenizer.id_to_token(token) or f"id {token}"  # ids may have gaps
    return f"`{text.translate(IN_CODE)}`"


def plain(text: str) -> str:
    """Text on one line that Markdown shows as it is."""
    return html.escape(SPECIAL.sub(r"\\\1", " ".join(text.split())), quote=False)
