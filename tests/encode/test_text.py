import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from pyg_sea.encode import encode_text

TEXTS = [
    'red tea',
    'a blue cup with tea of jam',
    'teapots',
    'green jam ' * 20,  # Longer than the model takes.
    'nobody knows this',
    'Red\n\ttea',
]


@pytest.fixture
def write(tmp_path, text_model):
    def write(texts, model=text_model, out='text.npy', **kwargs):
        cache_dir = tmp_path / kwargs.pop('cache_dir', 'cache')
        return encode_text(
            texts,
            model,
            tmp_path / out,
            cache_dir=cache_dir,
            progress=False,
            **kwargs,
        )

    return write


@pytest.fixture
def calls(monkeypatch):
    """The batches that reach a model."""
    batches = []
    encode = SentenceTransformer.encode

    def spy(self, batch, **kwargs):
        batches.append(batch)
        return encode(self, batch, **kwargs)

    monkeypatch.setattr(SentenceTransformer, 'encode', spy)
    return batches


def reference(folder, texts) -> np.ndarray:
    """Mean pooling and unit length by hand, one text at a time."""
    bert = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts:
        token = tokenizer(
            text, truncation=True, max_length=12, return_tensors='pt'
        )
        with torch.no_grad():
            row = bert(**token).last_hidden_state[0].mean(dim=0)
        rows.append((row / row.norm()).numpy())
    return np.stack(rows)


@pytest.mark.parametrize('batch_size', [1, 2, 32])
def test_against_one_text_at_a_time(write, text_model, batch_size):
    done = write(TEXTS, batch_size=batch_size)
    x = np.load(done.path)
    assert x.shape == (len(TEXTS), 16)
    expected = reference(text_model, TEXTS)
    np.testing.assert_allclose(x, expected, atol=1e-6)
    # Dropout is off, and the words that are known matter.
    assert np.abs(expected[0] - expected[1]).max() > 0.01


def test_computes_only_what_is_new(write, calls):
    with pytest.warns(UserWarning, match='1 of 5 items are missing'):
        write([*TEXTS[:3], None, TEXTS[0]])
    [batch] = calls
    assert sorted(batch) == sorted(TEXTS[:3])
    calls.clear()
    done = write([TEXTS[2], TEXTS[4], TEXTS[0]])
    assert calls == [[TEXTS[4]]]
    assert (done.num_computed, done.num_cached) == (1, 2)


def test_settings_and_weights_tell_models(write, calls, text_model, tmp_path):
    write(['tea'])
    for kwargs in ({'prompt': 'red '}, {'half': True}):
        calls.clear()
        write(['tea'], **kwargs)
        assert calls == [['tea']]
        calls.clear()
        write(['tea'], **kwargs)
        assert calls == []
    # Where the folder lies and what its readme says do not matter.
    moved = shutil.copytree(text_model, tmp_path / 'moved')
    (moved / 'README.md').write_text('Something else.')
    write(['tea'], moved)
    assert calls == []
    config = moved / 'modules.json'
    config.write_text(config.read_text() + '\n')
    write(['tea'], moved)
    assert calls == [['tea']]


def test_prompts_come_first(write):
    x = np.load(write(['tea'], prompt='red ').path)
    y = np.load(write(['red tea']).path)
    np.testing.assert_allclose(x, y, atol=1e-6)


def test_half_precision(write):
    x = np.load(write(TEXTS).path)
    y = np.load(write(TEXTS, half=True).path)
    assert y.dtype == np.float32
    np.testing.assert_allclose(x, y, atol=1e-2)
    assert np.array_equal(y, y.astype(np.float16))


def test_texts_of_one_length_share_a_batch(write, calls):
    write(['a', 'tea jam', 'of', 'cup of jam'], batch_size=2)
    assert calls == [['cup of jam', 'tea jam'], ['of', 'a']]


def test_goes_on_to_the_last_bit(write, monkeypatch):
    texts = [' '.join(TEXTS[:i]) or 'jam' for i in range(5)] + TEXTS
    whole = write(texts, batch_size=3, cache_dir='other')
    encode = SentenceTransformer.encode
    seen = []

    def interrupted(self, batch, **kwargs):
        if seen:
            raise KeyboardInterrupt
        seen.extend(batch)
        return encode(self, batch, **kwargs)

    monkeypatch.setattr(SentenceTransformer, 'encode', interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(texts, batch_size=3, out='resumed.npy')
    monkeypatch.setattr(SentenceTransformer, 'encode', encode)
    done = write(texts, batch_size=3, out='resumed.npy')
    assert done.num_cached == 3
    assert done.path.read_bytes() == whole.path.read_bytes()


def test_nothing_is_loaded_for_finished_files(write, tmp_path, text_model):
    write(TEXTS)
    code = """if True:
        import sys
        from pyg_sea.encode import encode_text
        done = encode_text(eval(sys.argv[1]), *sys.argv[2:4],
                           cache_dir=sys.argv[4], progress=False)
        print(done.num_cached, 'sentence_transformers' in sys.modules)
    """
    args = (repr(TEXTS), text_model, tmp_path / 'x.npy', tmp_path / 'cache')
    out = subprocess.run(
        [sys.executable, '-c', code, *map(str, args)],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert out.split() == [str(len(TEXTS)), 'False']


def hub_cache(root: Path, name: str, folder: Path, commit: str) -> None:
    """Lay a model out as a download would."""
    repo = root / f'models--{name.replace("/", "--")}'
    shutil.copytree(folder, repo / 'snapshots' / commit)
    (repo / 'refs').mkdir(exist_ok=True)
    (repo / 'refs' / 'main').write_text(commit)


@pytest.fixture
def offline_hub(tmp_path, monkeypatch):
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hub'))
    return tmp_path / 'hub'


def test_names_stand_for_commits(write, calls, text_model, offline_hub):
    hub_cache(offline_hub, 'ann/tiny', text_model, 'a' * 40)
    by_name = np.load(write(['red tea'], 'ann/tiny').path)
    np.testing.assert_array_equal(by_name, np.load(write(['red tea']).path))
    calls.clear()
    write(['red tea'], 'ann/tiny', revision='a' * 40)
    assert calls == []
    # The name stands for something newer now.
    hub_cache(offline_hub, 'ann/tiny', text_model, 'b' * 40)
    write(['red tea'], 'ann/tiny')
    assert calls == [['red tea']]
    hub_cache(offline_hub, 'sentence-transformers/tiny', text_model, 'c' * 40)
    write(['jam'], 'tiny')
    assert calls == [['red tea'], ['jam']]


@pytest.mark.usefixtures('offline_hub')
def test_refuses_unknown_models(write, text_model, tmp_path):
    for name in ('ann/nothing', 'nothing', './no/such/folder'):
        with pytest.raises(ValueError, match=f"'model' needs .*{name}"):
            write(['tea'], name)
    with pytest.raises(TypeError, match="'encode' takes any callable"):
        write(['tea'], torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="'revision' belongs to"):
        write(['tea'], text_model, revision='main')
    (tmp_path / 'no_model').mkdir()
    with pytest.raises(ValueError, match='cannot be loaded as one'):
        write(['tea'], tmp_path / 'no_model')


@pytest.mark.parametrize('text', [3, b'tea', ['tea']])
def test_refuses_what_is_no_text(write, text):
    with pytest.raises(TypeError, match=r"'texts' .* item 1 is a"):
        write(['tea', text])


def no_package(name):
    raise PackageNotFoundError(name)


def test_says_which_extra_is_needed(write, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr('importlib.metadata.Distribution.from_name', no_package)
        with pytest.raises(
            ImportError,
            match=r'needs sentence-transformers: pip install "pyg_sea\[encode',
        ):
            write(['tea'])
    monkeypatch.setitem(sys.modules, 'sentence_transformers', None)
    with pytest.raises(ImportError, match=r'pip install "pyg_sea\[encode\]"'):
        write(['tea'])
