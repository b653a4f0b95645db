"""The global random generator."""

import json

from minirnn.engine import manual_seed, random


def draw():
    return random.generator().standard_normal(5).tolist()


def test_the_same_seed_gives_the_same_numbers():
    manual_seed(3)
    first = draw()
    assert draw() != first
    manual_seed(3)
    assert draw() == first
    manual_seed(4)
    assert draw() != first


def test_whoever_holds_the_generator_is_seeded_too():
    held = random.generator()
    manual_seed(3)
    assert held is random.generator()


def test_a_state_goes_through_json_and_continues():
    manual_seed(3)
    draw()
    text = json.dumps(random.get_state())
    expected = draw()
    random.set_state(json.loads(text))
    assert draw() == expected
