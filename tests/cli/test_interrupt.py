import signal

import pytest

from pyg_sea.cli._interrupt import Interrupted, interruptible


def press():
    signal.raise_signal(signal.SIGINT)


def exit_as_lightning_does():
    try:
        press()
    except KeyboardInterrupt:
        raise SystemExit(1) from None


@pytest.mark.parametrize('code', [press, exit_as_lightning_does])
def test_says_how_to_go_on(code):
    before = signal.getsignal(signal.SIGINT)
    with (
        pytest.raises(Interrupted, match=r'^interrupted\. Do so$') as caught,
        interruptible('Do so'),
    ):
        code()
    assert caught.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) == before


def test_other_exits_are_left_alone():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit, match='3'), interruptible('Do so'):
        raise SystemExit(3)
    assert signal.getsignal(signal.SIGINT) == before
