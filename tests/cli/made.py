"""A small shop as its owner has it, and models with random weights."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from torch_geometric.data import HeteroData
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

COLORS = {
    'red': (200, 30, 30),
    'green': (30, 160, 60),
    'blue': (40, 60, 200),
    'black': (20, 20, 20),
}
THINGS = ['cup', 'pot', 'bowl', 'plate', 'spoon', 'jug', 'tray', 'lamp']
NUM_USERS, NUM_ITEMS = 60, 32


def make_shop(folder: Path) -> Path:
    """Write `orders.csv`, `items.csv`, `new.csv`, `photos/`, and models.

    Every thing comes in every color; users like a color. Item `sku-03` has
    no photo, `sku-05` no title; `sku-99` was never ordered.
    """
    rng = np.random.default_rng(0)
    names = [f'{color} {thing}' for thing in THINGS for color in COLORS]
    ids = [f'sku-{i:02d}' for i in range(NUM_ITEMS)]
    titles = dict(zip(ids, names))
    photos = folder / 'photos'
    photos.mkdir(parents=True)
    for i, (item, name) in enumerate(
        [*titles.items(), ('sku-99', 'red lamp'), ('sku-90', 'blue lamp')]
    ):
        noise = rng.integers(0, 40, (12, 12, 3))
        pixels = noise + np.array(COLORS[name.split()[0]])
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(photos / f'{item}.{"png" if i % 2 else "webp"}')
    (photos / 'sku-03.png').unlink()

    orders = []
    for user in range(NUM_USERS):
        liked = np.array([i % 4 == user % 4 for i in range(NUM_ITEMS)])
        share = np.where(liked, 6.0, 1.0)
        chosen = rng.choice(NUM_ITEMS, 8, False, share / share.sum())
        for step, item in enumerate(chosen):
            day = pd.Timestamp('2026-01-01') + pd.Timedelta(
                days=step, hours=user
            )
            pieces = int(rng.integers(1, 4))
            orders.append((f'{user:04d}', ids[item], day, pieces))
    columns = ['customer_id', 'sku', 'date', 'pieces']
    pd.DataFrame(orders, columns=columns).to_csv(
        folder / 'orders.csv', index=False
    )
    write_items(folder / 'items.csv', {**titles, 'sku-05': '', 'sku-99': 'x'})
    write_items(
        folder / 'new.csv', {'sku-90': 'blue lamp', 'sku-03': 'known already'}
    )
    _save_models(folder / 'models')
    return folder


def write_items(path: Path, titles: dict[str, str]) -> None:
    """Write a table of items."""
    table = pd.DataFrame({'sku': list(titles), 'title': titles.values()})
    table.to_csv(path, index=False)


def orders(shop: Path) -> pd.DataFrame:
    """Read `orders.csv`."""
    return pd.read_csv(shop / 'orders.csv', dtype={'customer_id': str})


def edges(data: HeteroData) -> list[list[list[int]]]:
    """The train, validation and test edges."""
    store = data['user', 'buys', 'item']
    names = ('edge_index', 'val_edge_index', 'test_edge_index')
    return [store[name].tolist() for name in names]


def _save_models(folder: Path) -> None:
    words = [*COLORS, *THINGS, '?']
    torch.manual_seed(0)
    tokenizer = Tokenizer(
        WordLevel({word: i for i, word in enumerate(words)}, unk_token='?')
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    static = StaticEmbedding(tokenizer, embedding_dim=8)
    SentenceTransformer(modules=[static]).save(str(folder / 'text'))
    config = ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=16,
        patch_size=8,
    )
    ViTModel(config).save_pretrained(folder / 'image')
    ViTImageProcessorPil(size={'height': 16, 'width': 16}).save_pretrained(
        folder / 'image'
    )
