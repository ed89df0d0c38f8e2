"""The full recommender on Amazon Sports, with the settings of the SEA paper.

python examples/amazon_sports.py --root data
"""

from _main import Published, main

if __name__ == '__main__':
    main(
        'Sports',
        Published(alpha=0.55, beta=0.01, weights={'image': 0.1, 'text': 0.9}),
    )
