"""The full recommender on Amazon Clothing, with the settings of the SEA paper.

python examples/amazon_clothing.py --root data
"""

from _main import Published, main

if __name__ == '__main__':
    main(
        'Clothing',
        Published(alpha=0.01, beta=0.01, weights={'image': 0.1, 'text': 0.9}),
    )
