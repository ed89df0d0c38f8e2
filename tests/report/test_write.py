import html
import json
import re
import shutil
from itertools import pairwise

import pytest
import torch

from pyg_sea.evaluate import evaluate
from pyg_sea.recommend import EmbeddingScorer
from pyg_sea.report import write, write_report
from pyg_sea.report.write import collect
from pyg_sea.runs import Run
from pyg_sea.transforms import model_inputs


@pytest.fixture(scope='module')
def page(sea_run, tmp_path_factory):
    path = tmp_path_factory.mktemp('page') / 'new' / 'report.html'
    assert write_report(sea_run, path) == path
    assert [file.name for file in path.parent.iterdir()] == ['report.html']
    return path.read_text(encoding='utf-8')


def test_totals_are_those_of_the_run(sea_run):
    content = collect(sea_run, 0, 0)
    test = sea_run.metrics['test']
    assert content['ranking'].total == pytest.approx(test, abs=1e-6)
    assert content['agrees']
    assert list(content['ranking'].total) == list(test)


def test_groups_lead_back_to_the_totals(sea_run):
    ranking = collect(sea_run, 0, 0)['ranking']
    for name in ranking.shown:
        total = sum(group.num * group.values[name] for group in ranking.users)
        assert total / sum(group.num for group in ranking.users) == (
            pytest.approx(sea_run.metrics['test'][name], abs=1e-6)
        )


def test_numbers_are_those_of_an_independent_evaluation(sea_run, page):
    data = sea_run.data()
    edges = data['user', 'buys', 'item']
    with torch.no_grad():
        embedding = sea_run.model(data).get_embedding(**model_inputs(data))
    scorer = EmbeddingScorer(*embedding.split([120, 90]))
    cold = edges.test_edge_index[1] >= 85
    assert cold.any()
    [value] = evaluate(
        scorer, edges.test_edge_index[:, cold], edges.edge_index, 20, 'recall'
    ).values()
    [row] = re.findall(r'0 \(cold\)</th>(.*?)</tr>', page, re.S)
    cells = re.findall('<td>(.*?)</td>', row)
    assert cells[:3] == ['5', str(int(cold.sum())), f'{value:.4f}']


def test_what_the_page_holds(sea_run, page):
    assert '<h1>SEA on shop</h1>' in page
    for name in sea_run.history.columns:
        _, _, term = name.partition('/')
        if term:
            assert f'<b>{term}</b>' in page, name
    for value in sea_run.metrics['test'].values():
        assert f'<td>{value:.4f}</td>' in page
    for values in sea_run.metrics['baselines'].values():
        assert f'<td>{values["recall@20"]:.4f}</td>' in page
    text = re.sub(r'\s+', ' ', re.sub('<[^>]+>', ' ', page))
    assert 'image 64 9 (10.0%)' in text
    assert 'cold items, without a train interaction 5 (5.56%)' in text
    assert page.count('class="user"') == 10
    assert page.count('<b>image, generic</b>') == 1
    for name in ('R² of unique', 'Retrieval@1', 'HSIC', 'Gini', 'own vector'):
        assert name in page
    assert 'the test metrics are the same' in text
    # As JSON, in which it stands in the folder.
    assert html.escape(json.dumps(sea_run.settings['train']['precision'])) in (
        page.replace('&#34;', '&quot;')
    )


def test_all_of_the_data_is_escaped(page):
    assert '<script' not in page
    assert '<b>biscuits' not in page
    assert '&lt;script&gt;alert(&#34;' in page
    assert 'Tea &amp; &lt;b&gt;biscuits&lt;/b&gt; ' in page


def test_nothing_is_loaded(page):
    assert re.findall(r'(?:src|href|action)="(?!#)', page) == []
    assert 'url(' not in page
    assert '@import' not in page
    assert '//' not in page.replace('<!DOCTYPE', '')
    assert "default-src 'none'" in page
    assert len(page.encode()) < 3e6


def test_anchors_and_tags_fit(page):
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    links = re.findall(r'href="#([^"]+)"', page)
    assert links
    assert set(links) <= set(ids)
    assert set(re.findall(r'aria-labelledby="([^"]+)"', page)) <= set(ids)
    for tag in ('section', 'table', 'details', 'figure', 'svg', 'div', 'ul'):
        assert page.count(f'<{tag}') == page.count(f'</{tag}>'), tag
    assert page.count('<svg') == page.count('role="img"')
    headings = [int(level) for level in re.findall(r'<h(\d)', page)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert max(headings) == 3
    assert all(b - a <= 1 for a, b in pairwise(headings))


def test_the_same_run_gives_the_same_page(sea_run, page, tmp_path):
    again = write_report(Run.open(sea_run.path), tmp_path / 'again.html')
    assert again.read_text(encoding='utf-8') == page
    other = write_report(sea_run, tmp_path / 'o.html', num_users=2, seed=1)
    text = other.read_text(encoding='utf-8')
    assert text.count('class="user"') == 2
    users = re.findall(r'<summary>User (\w+)', page)
    assert users[:2] != re.findall(r'<summary>User (\w+)', text)


def test_models_without_parts(vbpr_run, tmp_path):
    page = write_report(vbpr_run, tmp_path / 'vbpr.html', num_users=3)
    text = re.sub(r'\s+', ' ', page.read_text(encoding='utf-8'))
    assert 'does not split items into generic and unique parts' in text
    assert 'cannot be taken apart' in text
    assert 'What the user had that is most like it' in text
    for name in ('class="bars"', 'class="points', 'HSIC', 'own vector'):
        assert name not in text
    assert 'the test metrics are the same' in text


def test_no_users_say_nothing_of_the_model(sea_run, tmp_path):
    page = write_report(sea_run, tmp_path / 'page.html', num_users=0)
    text = re.sub(r'\s+', ' ', page.read_text(encoding='utf-8'))
    assert 'cannot be taken apart' not in text
    assert 'no users were asked for' in text
    page = write_report(sea_run, tmp_path / 'page.html', num_users=1)
    assert '<p>1 user, drawn' in page.read_text(encoding='utf-8')


def test_parts_that_explain_no_score(released_run, tmp_path):
    page = write_report(released_run, tmp_path / 'page.html', num_users=2)
    text = re.sub(r'\s+', ' ', page.read_text(encoding='utf-8'))
    assert 'HSIC' in text
    assert 'class="points' in text
    assert 'cannot be taken apart' in text
    assert 'class="bars"' not in text


def test_changed_data_are_told(sea_run, tmp_path):
    folder = tmp_path / 'run'
    shutil.copytree(sea_run.path, folder)
    file = folder / 'metrics.json'
    metrics = json.loads(file.read_text())
    metrics['test']['recall@20'] += 0.01
    file.write_text(json.dumps(metrics))
    page = write_report(Run.open(folder), tmp_path / 'page.html', num_users=0)
    text = re.sub(r'\s+', ' ', page.read_text(encoding='utf-8'))
    assert 'the test metrics differ by up to 0.01.' in text


def test_the_old_page_stays_if_the_new_one_fails(
    sea_run, tmp_path, monkeypatch
):
    path = tmp_path / 'report.html'
    path.write_text('old')
    with pytest.raises(ValueError, match=r"'num_users' .*\(got -1\)"):
        write_report(sea_run, path, num_users=-1)

    def fail(content):
        raise RuntimeError('full')

    monkeypatch.setattr(write, '_render', fail)
    with pytest.raises(RuntimeError, match='full'):
        write_report(sea_run, path)
    assert path.read_text() == 'old'
    assert [file.name for file in tmp_path.iterdir()] == ['report.html']
